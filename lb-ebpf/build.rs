//! What the linker is to know: it makes the machine code.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // For the host, as a build dependency of the agent, this package is an empty library.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        // Headers lie at odd places. The kernel allows wide loads there on machines that can do them.
        println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
