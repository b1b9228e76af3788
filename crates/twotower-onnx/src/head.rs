use crate::OnnxError;
use crate::builder::{Attribute, GraphBuilder, Value};
use twotower_core::tower::{GELU_SLOPE, Head, MIN_NORM};

/// Name and extents of a [`Head`] inside its tower's graph.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadShape<'a> {
    /// Prefix of the names of its tensors.
    pub(crate) tower: &'a str,
    /// Length of x.
    pub(crate) inputs: usize,
    /// Length d of the output.
    pub(crate) outputs: usize,
}

/// Appends `head`: from x `[batch, x]` to the value `output` `[batch, d]`, rows of unit norm.
pub(crate) fn append(
    graph: &mut GraphBuilder,
    head: &Head,
    shape: HeadShape<'_>,
    x: &Value,
    output: &str,
) -> Result<Value, OnnxError> {
    let HeadShape {
        tower,
        inputs,
        outputs,
    } = shape;
    let hidden = head.hidden_units();
    let name = |tensor: &str| format!("{tower}.{tensor}");
    let w1 = graph.matrix(
        &name("hidden.weight"),
        [inputs, hidden],
        &head.hidden.weight,
    )?;
    let b1 = graph.vector(&name("hidden.bias"), hidden, &head.hidden.bias)?;
    let w2 = graph.matrix(
        &name("output.weight"),
        [hidden, outputs],
        &head.output.weight,
    )?;
    let b2 = graph.vector(&name("output.bias"), outputs, &head.output.bias)?;
    let w3 = graph.matrix(&name("residual"), [inputs, outputs], &head.residual)?;
    let slope = graph.scalar("gelu_slope", GELU_SLOPE)?;
    let min_norm = graph.scalar("min_norm", MIN_NORM)?;

    let hidden = graph.node("hidden", "Gemm", &[x, &w1, &b1]);
    let steep = graph.node("hidden_steep", "Mul", &[&hidden, &slope]);
    let gate = graph.node("hidden_gate", "Sigmoid", &[&steep]);
    let active = graph.node("hidden_active", "Mul", &[&hidden, &gate]);
    let nonlinear = graph.node("nonlinear", "Gemm", &[&active, &w2, &b2]);
    let z = graph.node("z", "Gemm", &[x, &w3, &nonlinear]);
    let norm = graph.node_with(
        "z_norm",
        "ReduceL2",
        &[&z],
        &[
            ("axes", Attribute::Ints(&[1])),
            ("keepdims", Attribute::Int(1)),
        ],
    );
    let norm = graph.node("norm", "Max", &[&norm, &min_norm]);
    Ok(graph.node(output, "Div", &[&z, &norm]))
}
