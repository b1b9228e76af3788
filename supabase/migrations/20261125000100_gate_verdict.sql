-- What the quality gate said of a version, word by word.

alter table twotower.models add column if not exists verdict jsonb;
