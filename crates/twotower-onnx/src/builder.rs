use crate::OnnxError;
use crate::proto::tensor_shape_proto::{Dimension, dimension};
use crate::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto, tensor_proto,
    type_proto,
};
use prost::Message;
use twotower_core::matrix::Matrix;

/// Version of the file format; 8 is the one that came with opset 17.
const IR_VERSION: i64 = 8;

/// Version of the operators.
const OPSET: i64 = 17;

/// Protobuf refuses messages from 2 GiB on.
pub(crate) const MAX_BYTES: usize = i32::MAX as usize;

/// A value inside a graph, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value(String);

/// Extent of an axis.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Axis {
    /// The same in every call.
    Fixed(usize),
    /// Chosen by the caller; axes of one name agree.
    Dynamic(&'static str),
}

/// Type of a graph's inputs and outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Element {
    Float,
    Int64,
}

/// Collects nodes in execution order. The caller names the values.
#[derive(Debug, Default)]
pub(crate) struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    pub(crate) fn new(name: &str, doc: &str) -> Self {
        Self {
            graph: GraphProto {
                name: Some(name.to_owned()),
                doc_string: Some(doc.to_owned()),
                ..GraphProto::default()
            },
        }
    }

    /// An input of the graph.
    pub(crate) fn input(
        &mut self,
        name: &str,
        element: Element,
        axes: &[Axis],
        doc: &str,
    ) -> Value {
        self.graph.input.push(value_info(name, element, axes, doc));
        Value(name.to_owned())
    }

    /// Declares `value` an output of the graph.
    pub(crate) fn output(&mut self, value: &Value, axes: &[Axis], doc: &str) {
        self.graph
            .output
            .push(value_info(&value.0, Element::Float, axes, doc));
    }

    /// A weight matrix. The shape is checked against `[rows, cols]`, which the rest of the graph
    /// requires.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        shape: [usize; 2],
        matrix: &Matrix,
    ) -> Result<Value, OnnxError> {
        check(name, &shape, &[matrix.rows(), matrix.cols()])?;
        self.floats(name, &shape, matrix.as_slice())
    }

    /// A weight vector of length `len`.
    pub(crate) fn vector(
        &mut self,
        name: &str,
        len: usize,
        vector: &[f32],
    ) -> Result<Value, OnnxError> {
        check(name, &[len], &[vector.len()])?;
        self.floats(name, &[len], vector)
    }

    /// A constant of any shape, row-major.
    pub(crate) fn floats(
        &mut self,
        name: &str,
        shape: &[usize],
        data: &[f32],
    ) -> Result<Value, OnnxError> {
        check(
            name,
            &[shape.iter().product()],
            std::slice::from_ref(&data.len()),
        )?;
        if data.iter().any(|x| !x.is_finite()) {
            return Err(OnnxError::NotFinite {
                tensor: name.to_owned(),
            });
        }
        let mut bytes = Vec::with_capacity(4 * data.len());
        for x in data {
            bytes.extend_from_slice(&x.to_le_bytes());
        }
        Ok(self.initializer(name, tensor_proto::DataType::Float, shape, bytes))
    }

    /// A constant number.
    pub(crate) fn scalar(&mut self, name: &str, x: f32) -> Result<Value, OnnxError> {
        self.floats(name, &[], &[x])
    }

    /// A constant list of integers, for operators that take axes or paddings as an input.
    pub(crate) fn integers(&mut self, name: &str, list: &[i64]) -> Value {
        let bytes = list.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.initializer(name, tensor_proto::DataType::Int64, &[list.len()], bytes)
    }

    /// Appends one zero to axis 1 of `input`, which has `rank` axes. Runtimes disagree on sums over
    /// an axis of length 0, so that axis is never empty.
    pub(crate) fn pad_one(&mut self, output: &str, input: &Value, rank: usize) -> Value {
        let mut list = vec![0; 2 * rank];
        list[rank + 1] = 1;
        let pads = self.integers(&format!("{output}.pads"), &list);
        self.node(output, "Pad", &[input, &pads])
    }

    fn initializer(
        &mut self,
        name: &str,
        data_type: tensor_proto::DataType,
        shape: &[usize],
        bytes: Vec<u8>,
    ) -> Value {
        self.graph.initializer.push(TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(data_type as i32),
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
        Value(name.to_owned())
    }

    /// `output` = `operator`(`inputs`).
    pub(crate) fn node(&mut self, output: &str, operator: &str, inputs: &[&Value]) -> Value {
        self.node_with(output, operator, inputs, &[])
    }

    /// The same for an operator with integer attributes.
    pub(crate) fn node_with(
        &mut self,
        output: &str,
        operator: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute)],
    ) -> Value {
        self.graph.node.push(NodeProto {
            name: Some(output.to_owned()),
            op_type: Some(operator.to_owned()),
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![output.to_owned()],
            attribute: attributes
                .iter()
                .map(|(name, attribute)| attribute.proto(name))
                .collect(),
            ..NodeProto::default()
        });
        Value(output.to_owned())
    }

    /// The file's bytes.
    pub(crate) fn finish(self, metadata: &[(&str, &str)]) -> Result<Vec<u8>, OnnxError> {
        self.finish_within(MAX_BYTES, metadata)
    }

    fn finish_within(self, limit: usize, metadata: &[(&str, &str)]) -> Result<Vec<u8>, OnnxError> {
        for (position, (key, _)) in metadata.iter().enumerate() {
            if metadata[..position].iter().any(|(other, _)| other == key) {
                return Err(OnnxError::DuplicateMetadata {
                    key: (*key).to_owned(),
                });
            }
        }
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(OPSET),
            }],
            producer_name: Some("twotower".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: Some((*key).to_owned()),
                    value: Some((*value).to_owned()),
                })
                .collect(),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        let bytes = model.encoded_len();
        if bytes > limit {
            return Err(OnnxError::TooLarge { bytes, limit });
        }
        Ok(model.encode_to_vec())
    }
}

/// An operator's setting.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attribute {
    Int(i64),
    Ints(&'static [i64]),
}

impl Attribute {
    fn proto(self, name: &str) -> AttributeProto {
        let (r#type, i, ints) = match self {
            Self::Int(i) => (attribute_proto::AttributeType::Int, Some(i), vec![]),
            Self::Ints(ints) => (attribute_proto::AttributeType::Ints, None, ints.to_vec()),
        };
        AttributeProto {
            name: Some(name.to_owned()),
            r#type: Some(r#type as i32),
            i,
            ints,
            ..AttributeProto::default()
        }
    }
}

fn check(tensor: &str, expected: &[usize], found: &[usize]) -> Result<(), OnnxError> {
    if expected == found {
        return Ok(());
    }
    Err(OnnxError::Shape {
        tensor: tensor.to_owned(),
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}

fn value_info(name: &str, element: Element, axes: &[Axis], doc: &str) -> ValueInfoProto {
    let data_type = match element {
        Element::Float => tensor_proto::DataType::Float,
        Element::Int64 => tensor_proto::DataType::Int64,
    };
    let dim = axes
        .iter()
        .map(|axis| Dimension {
            value: Some(match axis {
                Axis::Fixed(extent) => dimension::Value::DimValue(*extent as i64),
                Axis::Dynamic(name) => dimension::Value::DimParam((*name).to_owned()),
            }),
            denotation: None,
        })
        .collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        doc_string: Some(doc.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(data_type as i32),
                shape: Some(TensorShapeProto { dim }),
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_cannot_hold_is_refused() {
        let graph = || {
            let mut graph = GraphBuilder::new("graph", "");
            graph.scalar("one", 1.0).unwrap();
            graph
        };
        let bytes = graph().finish(&[("a", "b")]).unwrap().len();
        assert!(graph().finish_within(bytes, &[("a", "b")]).is_ok());
        assert_eq!(
            graph().finish_within(bytes - 1, &[("a", "b")]),
            Err(OnnxError::TooLarge {
                bytes,
                limit: bytes - 1
            })
        );
        assert_eq!(
            graph().finish(&[("a", "b"), ("a", "c")]),
            Err(OnnxError::DuplicateMetadata { key: "a".into() })
        );
        assert_eq!(
            graph().scalar("x", f32::NAN),
            Err(OnnxError::NotFinite { tensor: "x".into() })
        );
        assert_eq!(
            graph().matrix("w", [2, 3], &Matrix::zeros(3, 2)),
            Err(OnnxError::Shape {
                tensor: "w".into(),
                expected: vec![2, 3],
                found: vec![3, 2]
            })
        );
    }
}
