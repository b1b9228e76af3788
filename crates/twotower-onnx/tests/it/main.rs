//! What leaves this crate, against the published format and against an ONNX runtime.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "all of this crate is test code, helpers between the tests included"
)]

mod generated;

mod random;

mod python;

mod cases;

mod towers;
