-- What the quality gate said of a version, word by word.
ALTER TABLE twotower_models ADD COLUMN verdict TEXT;
