//! Simulates steering with the agent's own code: `cargo xtask bench steering`. `docs/steering/measurements.md`
//! explains the figures.

mod figures;
mod plot;
mod policy;
mod probe;
mod queue;
mod report;
mod scenario;
mod server;
mod simulation;

use std::path::PathBuf;

use clap::Parser;
use lb_bench::{
    harm::{catalogue, report as harm, scenario::Scenario},
    page,
};
use lb_steering::Steering;

/// The line of the page after which the tables are written.
const BEGIN: &str = "<!-- begin: written by `cargo xtask bench steering --write` -->";
/// The same for the situations in which steering can do harm.
const BEGIN_HARM: &str = "<!-- begin: written by `cargo xtask bench steering harm --write` -->";

/// Simulates steering over the grid of pools, loads and lives of connections.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench steering",
    bin_name = "cargo xtask bench steering",
    version
)]
struct Arguments {
    /// How many times each case is played, each with other random numbers.
    #[arg(long, default_value_t = 5)]
    seeds: u64,

    /// The first of the random numbers' seeds.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,

    /// Also writes the tables and plots into docs/steering/.
    #[arg(long)]
    write: bool,

    /// Also lists every case that misses an aim.
    #[arg(long)]
    all: bool,

    /// Shows each period of the situations, under steering.
    #[arg(long)]
    trace: bool,

    /// What is simulated: everything without this.
    part: Option<Part>,

    /// Only situations whose name contains this.
    #[arg(requires = "part")]
    filter: Option<String>,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A part that is simulated alone.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Part {
    /// Situations in which steering can do harm, request by request.
    Harm,
}

/// Plays the situations that the filter leaves, and prints the tables.
fn play_harm(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(
        !arguments.write || arguments.filter.is_none(),
        "--write needs all situations: leave out the filter"
    );
    let situations: Vec<Scenario> = catalogue::all()
        .into_iter()
        .filter(|it| {
            let filter = arguments.filter.as_ref();
            filter.is_none_or(|filter| it.name.contains(filter.as_str()))
        })
        .collect();
    if arguments.trace {
        for situation in &situations {
            println!(
                "{}:\n{}",
                situation.name,
                harm::trace(situation, arguments.first_seed)
            );
        }
    }
    let rows = harm::played(&situations, arguments.first_seed, arguments.seeds);
    let all = arguments.all || arguments.filter.is_some();
    println!("{}", harm::tables(&rows, arguments.seeds, all));
    if arguments.write {
        page::replace(
            &folder().join("measurements.md"),
            BEGIN_HARM,
            &harm::tables(&rows, arguments.seeds, false),
        )?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs bench targets too; there is nothing to test.
        println!("nothing was simulated: `cargo xtask bench steering` does");
        return Ok(());
    }
    if let Some(Part::Harm) = arguments.part {
        return play_harm(&arguments);
    }
    let settings = Steering::default();
    let mut text = String::new();
    let mut print = |part: String| {
        println!("{part}");
        text.push_str(&part);
        text.push('\n');
    };
    print(report::compared(&settings, arguments.seeds));
    print(report::responses(&settings, arguments.seeds));
    print(report::rings(&settings, arguments.seeds));
    print(report::shedding(&settings, arguments.seeds));
    print(report::probes());
    print(report::grid(&settings, arguments.seeds, arguments.all));
    if arguments.write {
        page::replace(&folder().join("measurements.md"), BEGIN, &text)?;
        plot::all(&folder(), &settings)?;
    }
    play_harm(&arguments)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/steering")
}
