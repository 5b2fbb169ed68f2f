//! Compiles the protocol buffers with protox: no protoc is needed.

use anyhow::Context as _;
use prost::Message as _;

const FILES: [&str; 7] = [
    "lb/controller/v1/access.proto",
    "lb/controller/v1/controller.proto",
    "lb/controller/v1/history.proto",
    "lb/host/v1/host.proto",
    "lb/v1/balancer.proto",
    "lb/v1/component.proto",
    "lb/v1/report.proto",
];

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=lb");
    let files = protox::compile(FILES, ["."]).context("compiling the protocol buffers")?;
    let out =
        std::path::PathBuf::from(std::env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    std::fs::write(out.join("lb.v1.bin"), files.encode_to_vec())
        .context("writing the descriptors for reflection")?;
    let mut config = prost_build::Config::new();
    // `settings.rs` finds a message's descriptor by its name.
    config.enable_type_names();
    tonic_prost_build::configure()
        .compile_fds_with_config(files, config)
        .context("generating the API")?;
    Ok(())
}
