//! Compiles the protocol buffers with protox: no protoc is needed.

use anyhow::Context as _;
use prost::Message as _;

const FILES: [&str; 7] = [
    "lb/v1/balancer.proto",
    "lb/v1/health.proto",
    "lb/v1/load.proto",
    "lb/v1/peer.proto",
    "lb/v1/report.proto",
    "lb/v1/shedding.proto",
    "lb/v1/steering.proto",
];

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=lb");
    let files = protox::compile(FILES, ["."]).context("compiling lb/v1")?;
    let out =
        std::path::PathBuf::from(std::env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    std::fs::write(out.join("lb.v1.bin"), files.encode_to_vec())
        .context("writing the descriptors for reflection")?;
    tonic_prost_build::configure()
        .compile_fds(files)
        .context("generating lb.v1")?;
    Ok(())
}
