//! What leaves this crate, against the published format and against an ONNX runtime.

mod generated;
