use crate::OnnxError;
use crate::builder::{Attribute, Axis, Element, GraphBuilder, MAX_BYTES};
use crate::head::{self, HeadShape};
use twotower_core::feature::NUMERIC_FEATURES;
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::matrix::Matrix;
use twotower_core::model::Model;

const BATCH: Axis = Axis::Dynamic("batch");
const TERMS: Axis = Axis::Dynamic("terms");

/// Upper bound on the size of the file without its weights, in bytes.
const GRAPH_BYTES: u64 = 1 << 16;

/// The item tower as an ONNX file: `video_row` int64 `[batch]`, `term_rows` int64 `[batch, terms]`,
/// `term_weights` float `[batch, terms]` and `numeric` float `[batch, 3]` → `video_vector` float
/// `[batch, d]`, rows of unit norm.
///
/// A video with fewer terms than the widest one of the batch is padded with row 0 at weight 0.
/// `metadata` is added to the file's own (`tower`, `embedding_dim`, `numeric_features`).
///
/// # Errors
/// [`OnnxError`] if weights are not finite or do not fit together, if a metadata key is given
/// twice, or past 2 GiB.
pub fn item_tower(model: &Model, metadata: &[(&str, &str)]) -> Result<Vec<u8>, OnnxError> {
    let tower = &model.item_tower;
    let dim = tower.dim();
    let mut graph = GraphBuilder::new("item_tower", "Video features to a vector of unit norm.");
    let video_row = graph.input(
        "video_row",
        Element::Int64,
        &[BATCH],
        "Row of the id table: 1 + position in the preprocessing's videos, 0 for a video that is not among them.",
    );
    let term_rows = graph.input(
        "term_rows",
        Element::Int64,
        &[BATCH, TERMS],
        "Rows of the term table: genre, maker, tags, performers, character n-grams of title and description; 0 as padding.",
    );
    let term_weights = graph.input(
        "term_weights",
        Element::Float,
        &[BATCH, TERMS],
        "Weight of each term: 1 / number of rows that its field has; 0 as padding.",
    );
    let numeric = graph.input(
        "numeric",
        Element::Float,
        &[BATCH, Axis::Fixed(NUMERIC_FEATURES)],
        "Price, duration and publication, standardised; 0 where unknown.",
    );

    let id_shape = [tower.id_table.rows(), dim];
    let id_table = graph.matrix("item_tower.id_table", id_shape, &tower.id_table)?;
    // Padding gathers row 0, so the table has a row even where no term does.
    let no_terms = Matrix::zeros(1, dim);
    let term_table = match tower.term_table.rows() {
        0 => &no_terms,
        _ => &tower.term_table,
    };
    let term_shape = [term_table.rows(), dim];
    let term_table = graph.matrix("item_tower.term_table", term_shape, term_table)?;
    let last_axis = graph.integers("last_axis", &[2]);
    let terms_axis = graph.integers("terms_axis", &[1]);

    let id = graph.node("id", "Gather", &[&id_table, &video_row]);
    let term_rows = graph.pad_one("padded_term_rows", &term_rows, 2);
    let term_weights = graph.pad_one("padded_term_weights", &term_weights, 2);
    let terms = graph.node("terms", "Gather", &[&term_table, &term_rows]);
    let weights = graph.node("weights", "Unsqueeze", &[&term_weights, &last_axis]);
    let weighted = graph.node("weighted_terms", "Mul", &[&terms, &weights]);
    let content = graph.node_with(
        "content",
        "ReduceSum",
        &[&weighted, &terms_axis],
        &[("keepdims", Attribute::Int(0))],
    );
    let x = graph.node_with(
        "x",
        "Concat",
        &[&id, &content, &numeric],
        &[("axis", Attribute::Int(1))],
    );
    let shape = HeadShape {
        tower: "item_tower",
        inputs: tower.inputs(),
        outputs: dim,
    };
    let output = head::append(&mut graph, &tower.head, shape, &x, "video_vector")?;
    graph.output(
        &output,
        &[BATCH, Axis::Fixed(dim)],
        "Vectors of unit norm; the inner product with a user's vector is the score.",
    );

    let dim = dim.to_string();
    let mut entries = vec![
        ("tower", "item"),
        ("embedding_dim", dim.as_str()),
        (
            "numeric_features",
            "ln(1 + price), ln(1 + duration_seconds), publication in days since 1970",
        ),
    ];
    entries.extend_from_slice(metadata);
    graph.finish(&entries)
}

/// Whether [`item_tower`] can write a model whose two tables have `rows` rows together. Lets a
/// caller check before training.
///
/// # Errors
/// [`OnnxError::TooLarge`] past 2 GiB.
pub fn check_item_tower(rows: usize, hyperparameters: &Hyperparameters) -> Result<(), OnnxError> {
    let dim = hyperparameters.embedding_dim as u64;
    let hidden = hyperparameters.item_hidden as u64;
    let inputs = 2 * dim + NUMERIC_FEATURES as u64;
    let head = inputs * (hidden + dim) + hidden * (1 + dim) + dim;
    let numbers = dim.saturating_mul(rows as u64).saturating_add(head);
    let bytes = numbers.saturating_mul(4).saturating_add(GRAPH_BYTES);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > MAX_BYTES {
        return Err(OnnxError::TooLarge {
            bytes,
            limit: MAX_BYTES,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions};

    #[test]
    fn what_is_known_beforehand_is_just_above_what_is_written() {
        let hyperparameters = Hyperparameters {
            embedding_dim: 24,
            item_hidden: 40,
            ngram_buckets: 100,
            ..Hyperparameters::default()
        };
        let options = PreprocessingOptions {
            min_term_videos: 1,
            ngram_buckets: 100,
        };
        let catalogue = Catalogue::new([]).unwrap();
        let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
        let model = Model::zeros(hyperparameters.clone(), preprocessing);
        let written = item_tower(&model, &[("model_version", "9223372036854775807")]).unwrap();
        // The largest number of rows that fits, and how much room that leaves for this model's 101 rows.
        let row = 4 * hyperparameters.embedding_dim;
        let fits = |rows| check_item_tower(rows, &hyperparameters).is_ok();
        let (mut most, mut too_many) = (0, MAX_BYTES);
        while too_many - most > 1 {
            let middle = most.midpoint(too_many);
            if fits(middle) {
                most = middle;
            } else {
                too_many = middle;
            }
        }
        let known = MAX_BYTES - (most - 101) * row;
        assert!(written.len() <= known, "{} {known}", written.len());
        assert!(known <= written.len() + GRAPH_BYTES as usize + row);
        assert!(!fits(usize::MAX));
    }
}
