//! Writes the crate's descriptor set to a file, for tools outside Rust.
//!
//! `cargo run -p tandem-proto --example descriptors -- FILE`

use std::env;
use std::fs;
use std::io;

fn main() -> io::Result<()> {
    let Some(path) = env::args_os().nth(1) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: descriptors FILE",
        ));
    };
    fs::write(path, tandem_proto::FILE_DESCRIPTOR_SET)
}
