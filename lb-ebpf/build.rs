//! Options of the linker, which generates the machine code.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker.sh");
    // For the host, as a build dependency of the agent, this package is an empty library.
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "bpf") {
        // Headers are not aligned. The kernel allows wide unaligned loads on machines that have them.
        println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
    }
}
