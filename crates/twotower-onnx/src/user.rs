use crate::OnnxError;
use crate::builder::{Attribute, Axis, Element, GraphBuilder, Value};
use crate::head::{self, HeadShape};
use twotower_core::model::Model;
use twotower_core::tower::COUNT_SCALE;

const BATCH: Axis = Axis::Dynamic("batch");

/// A sum of weights below this counts as an empty history, whose mean is zero.
const MIN_WEIGHT: f32 = 1e-30;

/// The user tower as an ONNX file: `liked_vectors` float `[batch, likes, d]`, `liked_age` and
/// `liked_mask` float `[batch, likes]`, and the same three of `skipped` videos → `user_vector`
/// float `[batch, d]`, rows of unit norm.
///
/// Age 0 is the latest like, 1 the one before. The mask is 1 for a like and 0 for padding, whose
/// vector and age may be any finite numbers. An empty history also yields a vector, but one without
/// information: popular videos serve better. `metadata` is added to the file's own (`tower`,
/// `embedding_dim`, `decays`, `skip_decay`).
///
/// # Errors
/// [`OnnxError`] if weights are not finite or do not fit together, if a decay is outside 0..=1, if
/// a metadata key is given twice, or past 2 GiB.
pub fn user_tower(model: &Model, metadata: &[(&str, &str)]) -> Result<Vec<u8>, OnnxError> {
    let tower = &model.user_tower;
    let dim = tower.dim();
    let skip_decay = [tower.skip_decay];
    for (position, decay) in tower.decays.iter().chain(&skip_decay).enumerate() {
        if !(0.0..=1.0).contains(decay) {
            return Err(OnnxError::Decay {
                position,
                value: decay.to_string(),
            });
        }
    }
    let mut graph = GraphBuilder::new(
        "user_tower",
        "Liked and skipped videos to a vector of unit norm.",
    );
    let likes = Events {
        prefix: "liked",
        axis: "likes",
        decays: &tower.decays,
    };
    let skips = Events {
        prefix: "skipped",
        axis: "skips",
        decays: &skip_decay,
    };
    let likes = likes.inputs(&mut graph, dim);
    let skips = skips.inputs(&mut graph, dim);
    let shared = Shared {
        zero: graph.scalar("zero", 0.0)?,
        one: graph.scalar("one", 1.0)?,
        min_weight: graph.scalar("min_weight", MIN_WEIGHT)?,
        count_scale: graph.scalar("count_scale", COUNT_SCALE)?,
        scales_axis: graph.integers("scales_axis", &[1]),
        events_axis: graph.integers("events_axis", &[1]),
        weights_axis: graph.integers("weights_axis", &[2]),
    };
    let likes = likes.padded(&mut graph);
    let skips = skips.padded(&mut graph);
    let liked = likes.means(&mut graph, &shared)?;
    let skipped = skips.means(&mut graph, &shared)?;
    let like_count = likes.count(&mut graph, &shared);
    let skip_count = skips.count(&mut graph, &shared);
    let x = graph.node_with(
        "x",
        "Concat",
        &[&liked, &skipped, &like_count, &skip_count],
        &[("axis", Attribute::Int(1))],
    );
    let shape = HeadShape {
        tower: "user_tower",
        inputs: tower.inputs(),
        outputs: dim,
    };
    let output = head::append(&mut graph, &tower.head, shape, &x, "user_vector")?;
    graph.output(
        &output,
        &[BATCH, Axis::Fixed(dim)],
        "Vectors of unit norm; the inner product with a video's vector is the score.",
    );

    let dim = dim.to_string();
    let decays = tower
        .decays
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let skip_decay = tower.skip_decay.to_string();
    let mut entries = vec![
        ("tower", "user"),
        ("embedding_dim", dim.as_str()),
        ("decays", decays.as_str()),
        ("skip_decay", skip_decay.as_str()),
    ];
    entries.extend_from_slice(metadata);
    graph.finish(&entries)
}

/// Constants that likes and skips share.
struct Shared {
    zero: Value,
    one: Value,
    min_weight: Value,
    count_scale: Value,
    scales_axis: Value,
    events_axis: Value,
    weights_axis: Value,
}

/// One half of a history, likes or skips.
struct Events<'a> {
    prefix: &'static str,
    axis: &'static str,
    decays: &'a [f32],
}

impl<'a> Events<'a> {
    fn inputs(self, graph: &mut GraphBuilder, dim: usize) -> EventInputs<'a> {
        let prefix = self.prefix;
        let events = Axis::Dynamic(self.axis);
        EventInputs {
            vectors: graph.input(
                &format!("{prefix}_vectors"),
                Element::Float,
                &[BATCH, events, Axis::Fixed(dim)],
                &format!(
                    "The item tower's vectors of {prefix} videos, in any order; finite numbers as padding."
                ),
            ),
            age: graph.input(
                &format!("{prefix}_age"),
                Element::Float,
                &[BATCH, events],
                &format!(
                    "0 for the latest of the {} of a user, 1 for the one before, and so on; anything as padding.",
                    self.axis
                ),
            ),
            mask: graph.input(
                &format!("{prefix}_mask"),
                Element::Float,
                &[BATCH, events],
                &format!("1 for {prefix} videos, 0 for padding."),
            ),
            prefix,
            decays: self.decays,
        }
    }
}

/// The same half with its inputs declared in the graph.
struct EventInputs<'a> {
    prefix: &'static str,
    decays: &'a [f32],
    vectors: Value,
    age: Value,
    mask: Value,
}

impl EventInputs<'_> {
    /// Adds one event of padding, so that the axis is never empty.
    fn padded(self, graph: &mut GraphBuilder) -> Self {
        let mut pad = |value: &str, input: &Value, rank| {
            graph.pad_one(&format!("{}_{value}_padded", self.prefix), input, rank)
        };
        Self {
            vectors: pad("vectors", &self.vectors, 3),
            age: pad("age", &self.age, 2),
            mask: pad("mask", &self.mask, 2),
            ..self
        }
    }

    /// Σ δ^age v / Σ δ^age for each decay δ, side by side: `[batch, k d]`. The mean over an empty
    /// history is zero.
    fn means(&self, graph: &mut GraphBuilder, shared: &Shared) -> Result<Value, OnnxError> {
        let name = |value: &str| format!("{}_{value}", self.prefix);
        let scales = self.decays.len();
        let decays = graph.floats(&name("decays"), &[scales, 1], self.decays)?;
        // Padding may have any age, and 0 to a negative power is infinite.
        let age = graph.node(&name("age_from_zero"), "Max", &[&self.age, &shared.zero]);
        let unsqueeze = |graph: &mut GraphBuilder, value: &str, input: &Value| {
            graph.node(&name(value), "Unsqueeze", &[input, &shared.scales_axis])
        };
        let age = unsqueeze(graph, "age_by_scale", &age);
        let mask = unsqueeze(graph, "mask_by_scale", &self.mask);
        let powers = graph.node(&name("powers"), "Pow", &[&decays, &age]);
        let weights = graph.node(&name("weights"), "Mul", &[&powers, &mask]);
        let sums = graph.node(&name("sums"), "MatMul", &[&weights, &self.vectors]);
        let total = graph.node_with(
            &name("total_weight"),
            "ReduceSum",
            &[&weights, &shared.weights_axis],
            &[("keepdims", Attribute::Int(1))],
        );
        let total = graph.node(&name("divisor"), "Max", &[&total, &shared.min_weight]);
        let means = graph.node(&name("means"), "Div", &[&sums, &total]);
        Ok(graph.node_with(
            &name("means_side_by_side"),
            "Flatten",
            &[&means],
            &[("axis", Attribute::Int(1))],
        ))
    }

    /// ln(1 + n) · [`COUNT_SCALE`]: `[batch, 1]`.
    fn count(&self, graph: &mut GraphBuilder, shared: &Shared) -> Value {
        let name = |value: &str| format!("{}_{value}", self.prefix);
        let count = graph.node_with(
            &name("count"),
            "ReduceSum",
            &[&self.mask, &shared.events_axis],
            &[("keepdims", Attribute::Int(1))],
        );
        let count = graph.node(&name("count_plus_one"), "Add", &[&count, &shared.one]);
        let log = graph.node(&name("count_log"), "Log", &[&count]);
        graph.node(&name("count_scaled"), "Mul", &[&log, &shared.count_scale])
    }
}
