-- Making another version active ends the experiment that compares with the one before, in the same transaction.
grant update (ended_at) on twotower.experiments to twotower_updater;
