//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.
use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("protos");
    let files = ["agent.proto", "worker.proto", "foundation.proto", "shop.proto", "edge.proto"].map(|f| root.join(f));
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(&files, [&root])?;
    // What load can call without being told: the control plane is not for scenarios.
    let mut callable = descriptors.clone();
    callable.file.retain(|file| !["agent.proto", "worker.proto"].contains(&file.name()));
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(out, callable.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
