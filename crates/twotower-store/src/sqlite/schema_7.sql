-- Making another version active ends the experiment that compares with the one before. Those that went on by mistake:
UPDATE twotower_experiments SET ended_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
WHERE ended_at IS NULL AND control_version IS NOT (SELECT version FROM twotower_active_model);
