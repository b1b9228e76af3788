//! The committed protobuf types are those of the committed `onnx.proto`.

use prost_build::Module;
use std::path::Path;

/// With `TWOTOWER_WRITE_PROTO=1` in the environment it writes the file instead.
#[test]
fn generated_code_matches_the_published_proto() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = protox::compile(["onnx.proto"], [root.join("proto")]).unwrap();
    let requests = files
        .file
        .into_iter()
        .map(|file| (Module::from_protobuf_package_name(file.package()), file))
        .collect();
    let modules = prost_build::Config::new()
        .disable_comments(["."])
        .generate(requests)
        .unwrap();
    let code = &modules[&Module::from_protobuf_package_name("onnx")];
    let path = root.join("src/proto/onnx.rs");
    if std::env::var_os("TWOTOWER_WRITE_PROTO").is_some_and(|write| write == "1") {
        std::fs::write(&path, code).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        *code == committed,
        "src/proto/onnx.rs is out of date: run this test with TWOTOWER_WRITE_PROTO=1"
    );
}
