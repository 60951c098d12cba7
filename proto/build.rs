//! Compiles the message definitions with protox, so that no `protoc` has to be installed, and keeps their descriptors
//! for the check against Google's published field table.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use prost::Message;

/// Imports are resolved against this directory.
const INCLUDE_ROOT: &str = "proto";

/// The services. All else is reached by import.
const ENTRY_POINTS: [&str; 2] = [
    "google/cloud/dialogflow/cx/v3/session.proto",
    "google/cloud/dialogflow/cx/v3beta1/session.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={INCLUDE_ROOT}");
    let mut descriptors = protox::compile(ENTRY_POINTS, [INCLUDE_ROOT])?;

    // `Bytes`: audio goes from a network buffer to a jitter buffer without being copied.
    tonic_prost_build::configure()
        .bytes(".")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors.clone())?;

    // The generator needed the comments; the check does not.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    let path = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.binpb");
    fs::write(path, descriptors.encode_to_vec())?;
    Ok(())
}
