//! Inputs and expected outputs as plain little-endian numbers, listed in `cases.json`.

use crate::random::Random;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use twotower_core::feature::{ItemFeatures, NUMERIC_FEATURES};
use twotower_core::tower::{ItemTower, UserTower};

/// The cases of one folder.
pub(crate) struct Cases {
    folder: PathBuf,
    files: usize,
    list: Vec<Value>,
}

/// Inputs of the item tower for n videos: row of the id table, terms with weights, numeric features.
pub(crate) type ItemRow = (u32, Vec<(u32, f32)>, Vec<f32>);

/// What a user liked and skipped, oldest first.
#[derive(Clone, Default)]
pub(crate) struct UserRow {
    pub(crate) likes: Vec<Vec<f32>>,
    pub(crate) skips: Vec<Vec<f32>>,
}

impl Cases {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: 0,
            list: vec![],
        }
    }

    /// Writes `cases.json`.
    pub(crate) fn finish(self) {
        let list = Value::from(self.list).to_string();
        std::fs::write(self.folder.join("cases.json"), list).unwrap();
    }

    fn floats(&mut self, shape: &[usize], data: &[f32]) -> Value {
        assert_eq!(data.len(), shape.iter().product::<usize>());
        self.tensor(
            "f32",
            shape,
            data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        )
    }

    fn integers(&mut self, shape: &[usize], data: &[i64]) -> Value {
        assert_eq!(data.len(), shape.iter().product::<usize>());
        self.tensor(
            "i64",
            shape,
            data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        )
    }

    fn tensor(&mut self, element: &str, shape: &[usize], bytes: Vec<u8>) -> Value {
        let file = format!("{}.{element}", self.files);
        self.files += 1;
        std::fs::write(self.folder.join(&file), bytes).unwrap();
        json!({"file": file, "type": element, "shape": shape})
    }

    /// Rows padded to the longest list of terms, and our own vectors for them.
    pub(crate) fn item(&mut self, graph: &str, name: &str, rows: &[ItemRow], expected: &[f32]) {
        let terms = rows.iter().map(|(_, terms, _)| terms.len()).max().unwrap();
        let (mut term_rows, mut term_weights) = (vec![], vec![]);
        for (_, row, _) in rows {
            let padding = std::iter::repeat_n(&(0, 0.0), terms - row.len());
            for &(row, weight) in row.iter().chain(padding) {
                term_rows.push(i64::from(row));
                term_weights.push(weight);
            }
        }
        let n = rows.len();
        let video_row: Vec<i64> = rows.iter().map(|(row, ..)| i64::from(*row)).collect();
        let numeric: Vec<f32> = rows
            .iter()
            .flat_map(|(.., numeric)| numeric.clone())
            .collect();
        let case = json!({
            "graph": graph,
            "name": name,
            "inputs": {
                "video_row": self.integers(&[n], &video_row),
                "term_rows": self.integers(&[n, terms], &term_rows),
                "term_weights": self.floats(&[n, terms], &term_weights),
                "numeric": self.floats(&[n, NUMERIC_FEATURES], &numeric),
            },
            "output": "video_vector",
            "expected": self.floats(&[n, expected.len() / n], expected),
        });
        self.list.push(case);
    }

    /// Histories padded to `width` likes and skips, and our own vectors for them.
    pub(crate) fn user(
        &mut self,
        (graph, tower): (&str, &UserTower),
        name: &str,
        rows: &[UserRow],
        width: usize,
        random: &mut Random,
    ) {
        let (n, dim) = (rows.len(), tower.dim());
        let mut inputs = serde_json::Map::new();
        for (prefix, events) in [
            ("liked", rows.iter().map(|row| &row.likes).collect()),
            (
                "skipped",
                rows.iter().map(|row| &row.skips).collect::<Vec<_>>(),
            ),
        ] {
            let width = events.iter().map(|row| row.len()).max().unwrap().max(width);
            let (mut vectors, mut ages, mut mask) = (vec![], vec![], vec![]);
            for row in events {
                // Padding on both sides, with vectors and ages that must not count.
                let before = random.below(width - row.len() + 1);
                for position in 0..width {
                    let event = position
                        .checked_sub(before)
                        .and_then(|event| row.get(event));
                    match event {
                        Some(vector) => vectors.extend_from_slice(vector),
                        None => vectors.extend(random.unit_vector(dim)),
                    }
                    mask.push(f32::from(event.is_some()));
                    ages.push((before + row.len()) as f32 - 1.0 - position as f32);
                }
            }
            inputs.insert(
                format!("{prefix}_vectors"),
                self.floats(&[n, width, dim], &vectors),
            );
            inputs.insert(format!("{prefix}_age"), self.floats(&[n, width], &ages));
            inputs.insert(format!("{prefix}_mask"), self.floats(&[n, width], &mask));
        }
        let expected: Vec<f32> = rows.iter().flat_map(|row| embed_user(tower, row)).collect();
        let case = json!({
            "graph": graph,
            "name": name,
            "inputs": inputs,
            "output": "user_vector",
            "expected": self.floats(&[n, dim], &expected),
        });
        self.list.push(case);
    }
}

/// Our runtime's vector; of an empty history, what the head makes of an input of zeros.
pub(crate) fn embed_user(tower: &UserTower, row: &UserRow) -> Vec<f32> {
    let state = tower.history(
        row.likes.iter().map(Vec::as_slice),
        row.skips.iter().map(Vec::as_slice),
    );
    tower.embed(&state).unwrap_or_else(|| {
        let mut out = vec![0.0; tower.dim()];
        tower.head.embed(&vec![0.0; tower.inputs()], &mut out);
        out
    })
}

/// The rows of `features`.
pub(crate) fn item_rows(features: &ItemFeatures) -> Vec<ItemRow> {
    (0..features.len())
        .map(|item| {
            let mut scratch = Vec::new();
            let (rows, weights) = features.terms(item, &mut scratch);
            let terms = rows.iter().copied().zip(weights.iter().copied());
            (
                features.id_row(item),
                terms.collect(),
                features.numeric(item).to_vec(),
            )
        })
        .collect()
}

/// Vectors of rows that come from no video: x by the definition of [`ItemTower`], then its head.
pub(crate) fn embed_items(tower: &ItemTower, rows: &[ItemRow]) -> Vec<f32> {
    let mut x = vec![];
    for (id, terms, numeric) in rows {
        x.extend_from_slice(tower.id_table.row(*id as usize));
        let content = x.len();
        x.resize(content + tower.dim(), 0.0);
        for &(term, weight) in terms {
            for (x, y) in x[content..]
                .iter_mut()
                .zip(tower.term_table.row(term as usize))
            {
                *x += weight * y;
            }
        }
        x.extend_from_slice(numeric);
    }
    let mut out = vec![0.0; rows.len() * tower.dim()];
    tower.head.embed(&x, &mut out);
    out
}
