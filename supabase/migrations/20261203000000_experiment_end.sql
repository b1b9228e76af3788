-- Making another version active ends the experiment that compares with the one before, in the same transaction.
grant update (ended_at) on twotower.experiments to twotower_updater;

-- Those that went on by mistake.
update twotower.experiments set ended_at = now()
where ended_at is null and control_version is distinct from (select version from twotower.active_model);
