//! Commands per second through the controller's queue, each durable: `cargo xtask bench queue`. `docs/performance.md` explains the
//! figures.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use futures::{StreamExt as _, future::BoxFuture};
use lb_commands::{
    command::{Command, NewCommand},
    environment::Environment,
    queue::{Limits, Outcome},
};
use lb_controller::{
    keeper::{Keeper, Place},
    queue::{Commands, Execute, StoredOrders},
};
use lb_serve::vital::Vital;
use serde_json::Value;

/// Measures the command queue on this machine: a file store in a folder, and commands that do nothing.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench queue",
    bin_name = "cargo xtask bench queue",
    version
)]
struct Arguments {
    /// Commands that are ordered.
    #[arg(long, default_value_t = 20_000)]
    commands: u32,

    /// Callers that order at the same time.
    #[arg(long, default_value_t = 256)]
    callers: usize,

    /// The folder of the store [default: a new one in the folder of temporary files].
    #[arg(long)]
    folder: Option<std::path::PathBuf>,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Does nothing, at once; a parent has two children.
#[derive(Debug)]
struct Nothing;

impl Execute for Nothing {
    fn execute(&self, command: Command, _: Option<Environment>) -> BoxFuture<'static, Outcome> {
        let outcome = if command.verb == "parent" && command.stage == 0 {
            let child =
                |name: &str| NewCommand::new(format!("{}/{name}", command.object), "nothing");
            Outcome::Children(vec![child("one"), child("two")], Value::Null)
        } else {
            Outcome::Done(Value::Null)
        };
        Box::pin(std::future::ready(outcome))
    }
}

/// Orders commands, and waits until each has ended.
async fn measure(
    commands: &Commands,
    verb: &'static str,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let orders = (0..arguments.commands).map(|number| async move {
        let asked = Instant::now();
        let command = NewCommand::new(format!("{verb}/{number}"), verb);
        commands.submit(command).await.map(|_| asked.elapsed())
    });
    let answered: Vec<_> = futures::stream::iter(orders)
        .buffer_unordered(arguments.callers)
        .collect()
        .await;
    let taken = begin.elapsed();
    let mut changed = commands.changed();
    while commands.read(|state| state.queue.open()) > 0 {
        changed.changed().await?;
    }
    let done = begin.elapsed();
    let mut latencies: Vec<Duration> = answered.into_iter().collect::<Result<_, _>>()?;
    latencies.sort_unstable();
    let at =
        |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let rate = |time: Duration| f64::from(arguments.commands) / time.as_secs_f64();
    println!(
        "{} orders ({verb}) by {} callers: {:.0} taken a second (durable, median {:.1} ms, 99 % {:.1} ms), {:.0} done a second",
        arguments.commands,
        arguments.callers,
        rate(taken),
        at(0.5),
        at(0.99),
        rate(done),
    );
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench queue`");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let temporary = tempfile::tempdir()?;
        let folder = arguments.folder.as_deref().unwrap_or(temporary.path());
        let vital = Vital::new();
        let opened = Keeper::open(&Place::Redb, folder, "bench")?;
        let prepared = Commands::prepare(opened.keeper, Limits::default(), StoredOrders::default());
        let commands = prepared.commands();
        prepared.start(Arc::new(Nothing), &vital.registrar());
        measure(&commands, "nothing", &arguments).await?;
        measure(&commands, "parent", &arguments).await
    })
}
