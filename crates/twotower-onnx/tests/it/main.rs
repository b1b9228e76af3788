//! What leaves this crate, against the published format and against an ONNX runtime.

mod generated;

mod random;

mod python;

mod cases;

mod towers;
