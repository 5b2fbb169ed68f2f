//! Simulates how pools scale with the controller's own code: `cargo xtask bench scaling`. `docs/scaling.md` explains the
//! figures.

mod plot;

use std::path::PathBuf;

use clap::Parser;
use lb_bench::{page, scaling::report};

/// The line of the page after which the tables are written.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench scaling --write` -->";

/// Simulates laws of scaling on traces of demand.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench scaling",
    bin_name = "cargo xtask bench scaling",
    version
)]
struct Arguments {
    /// How many times each case is played, each with other random numbers.
    #[arg(long, default_value_t = 5)]
    seeds: u64,

    /// The first of the random numbers' seeds.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,

    /// Also writes the tables and plots into docs/.
    #[arg(long)]
    write: bool,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs bench targets too; there is nothing to test.
        println!("nothing was simulated: `cargo xtask bench scaling` does");
        return Ok(());
    }
    let mut text = report::compared(arguments.first_seed, arguments.seeds);
    for part in [
        report::warm(arguments.first_seed, arguments.seeds),
        report::long_lived(arguments.first_seed),
    ] {
        text.push('\n');
        text.push_str(&part);
    }
    println!("{text}");
    if arguments.write {
        page::replace(&docs().join("scaling.md"), BEGIN, &text)?;
        plot::all(&docs().join("scaling"), arguments.first_seed)?;
    }
    Ok(())
}

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs")
}
