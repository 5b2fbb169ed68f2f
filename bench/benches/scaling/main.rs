//! Simulates how pools scale with the controller's own code: `cargo xtask bench scaling`. `docs/scaling.md` explains the
//! figures.

mod plot;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use lb_bench::scaling::report;

/// The line of the page after which the tables are written.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench scaling --write` -->";
/// The line of the page before which tables end.
const END: &str = "<!-- end -->";

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
        write(&text)?;
        plot::all(&docs().join("scaling"), arguments.first_seed)?;
    }
    Ok(())
}

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Replaces what the page has between the marks.
fn write(text: &str) -> anyhow::Result<()> {
    let page = docs().join("scaling.md");
    let old = fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = old
        .split_once(BEGIN)
        .with_context(|| format!("{} has no line {BEGIN}", page.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no line {END}", page.display()))?;
    fs::write(&page, format!("{before}{BEGIN}\n\n{text}{END}{after}"))
        .with_context(|| format!("writing {}", page.display()))
}
