//! The protobuf messages of ONNX, generated from the published `proto/onnx.proto` by the test
//! `generated_code_matches_the_published_proto`.

include!("proto/onnx.rs");
