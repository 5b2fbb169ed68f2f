//! Simulates steering on the controller's own code: `cargo xtask bench steering`. What the figures mean is in
//! `docs/steering.md`.

mod figures;
mod plot;
mod policy;
mod probe;
mod queue;
mod random;
mod report;
mod scenario;
mod server;
mod world;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use lb_agent::steering::spec::Steering;

/// Where the tables go in the page: between these lines.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench steering --write` -->";
/// See [`BEGIN`].
const END: &str = "<!-- end -->";

/// Simulates steering over the grid of pools, loads and lives of connections.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench steering",
    bin_name = "cargo xtask bench steering",
    version
)]
struct Arguments {
    /// How many times each case is played.
    #[arg(long, default_value_t = 5)]
    seeds: u64,

    /// Writes the tables and plots into docs/ too.
    #[arg(long)]
    write: bool,

    /// Also lists every case that is out of reach.
    #[arg(long)]
    all: bool,

    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs bench targets too; there is nothing to test.
        println!("nothing was simulated: `cargo xtask bench steering` does");
        return Ok(());
    }
    let spec = Steering::default();
    let mut text = String::new();
    let mut say = |part: String| {
        println!("{part}");
        text.push_str(&part);
        text.push('\n');
    };
    say(report::compared(&spec, arguments.seeds));
    say(report::responses(&spec, arguments.seeds));
    say(report::rings(&spec, arguments.seeds));
    say(report::shedding(&spec, arguments.seeds));
    say(report::probes());
    say(report::grid(&spec, arguments.seeds, arguments.all));
    if arguments.write {
        write(&text, &spec)?;
    }
    Ok(())
}

fn write(text: &str, spec: &Steering) -> anyhow::Result<()> {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = docs.join("steering.md");
    let old = fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = old
        .split_once(BEGIN)
        .with_context(|| format!("{} has no line {BEGIN}", page.display()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{} has no line {END}", page.display()))?;
    fs::write(&page, format!("{before}{BEGIN}\n\n{text}{END}{after}"))
        .with_context(|| format!("writing {}", page.display()))?;
    let plots = docs.join("steering");
    fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    plot::all(&plots, spec)
}
