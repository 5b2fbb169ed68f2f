//! How many packets consult the flow table while weights move: `cargo xtask bench settling`.
//!
//! The data plane is the agent's own, on tables in memory with a clock that is set. Weights come from the agent's
//! steering, by noisy readings of a simulated pool, or from a random walk. Each connection remembers its real, so a packet
//! that reaches another one is found. Kernel and network take no part, and no time is measured.

mod connections;
mod weights;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use lb_bench::walk::PERIOD;
use lb_common::limits::ticks_from_millis;
use lb_dataplane::{
    Dataplane as _, MemoryDataplane, ServiceSpec, SlotStates, Terms, options::Options,
    resolver::AllNeighbours,
};
use lb_model::options::{Forward, Track};
use lb_steering::ring::{Algorithm, build_shared, default_slots, moved, shares};

use crate::{
    connections::Connections,
    weights::{REALS, Weights, address},
};

/// Seconds between two ticks of the data plane. The agent's are a second apart; a sweep of a large table is not due
/// oftener than this.
const TICK: u64 = 30;
/// The default of TCP.
const WINDOW: Duration = Duration::from_secs(3_600);
const RING_SEED: u64 = 7;

/// Simulates connections through a VIP of 20 reals whose weights move all the time, and counts the packets that consult
/// the flow table.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench settling",
    bin_name = "cargo xtask bench settling",
    version
)]
struct Arguments {
    /// Connections of a mean life of a day.
    #[arg(long, default_value_t = 1_000_000)]
    connections: u32,

    /// Days for which they are simulated.
    #[arg(long, default_value_t = 3.0)]
    days: f64,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One case.
struct Case {
    name: &'static str,
    weights: Weights,
    /// Mean life of a connection, seconds.
    life: f64,
    connections: u32,
    hours: f64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was simulated; run `cargo xtask bench settling`");
        return Ok(());
    }
    let hours = arguments.days * 24.0;
    let long = |name, weights| Case {
        name,
        weights,
        life: 86_400.0,
        connections: arguments.connections,
        hours,
    };
    let short = |name, weights| Case {
        name,
        weights,
        life: 2.0,
        connections: 500,
        hours: 4.0,
    };
    let cases = [
        short("short connections, steered", Weights::steered(2.0)),
        short("short connections, random walk", Weights::walk()),
        long("lives of a day, steered", Weights::steered(86_400.0)),
        long("lives of a day, random walk", Weights::walk()),
    ];
    for case in cases {
        play(case)?;
    }
    Ok(())
}

fn spec(ring: Arc<[u16]>) -> anyhow::Result<ServiceSpec> {
    Ok(ServiceSpec {
        vip: "10.0.0.1:80/tcp".parse()?,
        forward: Forward::Ipip,
        terms: Terms::default(),
        track: Track::Exceptions,
        window: WINDOW,
        reals: (0..REALS).map(address).collect(),
        down: BTreeMap::new(),
        ring,
    })
}

/// What is counted from one row of the table to the next.
#[derive(Default)]
struct Counted {
    moved: f64,
    packets: u64,
    lookups: u64,
}

fn play(case: Case) -> anyhow::Result<()> {
    let Case {
        name,
        mut weights,
        life,
        connections,
        hours,
    } = case;
    let options = Options {
        flow_entries: (2 * connections).max(65_536),
        ring_seed: RING_SEED,
        ..Options::new(Vec::new())
    };
    let mut plane = MemoryDataplane::new(&options, Box::new(AllNeighbours))?;
    let slots = default_slots(usize::from(REALS));
    let names: Vec<_> = (0..REALS).map(address).collect();
    let build = |weights: &[u32]| {
        let reals: Vec<_> = names.iter().copied().zip(weights.iter().copied()).collect();
        build_shared(Algorithm::Rendezvous, RING_SEED, slots, &reals)
    };
    let mut ring = build(&weights.current());
    plane.set_service(&spec(Arc::clone(&ring))?)?;
    let mut clients = Connections::new(connections, life, &mut plane);
    let mut counted = Counted::default();
    let mut before = lookups(&plane)?;
    let mut rows = Vec::new();
    let periods = (hours * 3_600.0) as u64 / PERIOD;
    let hour = 3_600 / PERIOD;
    for period in 1..=periods {
        let shares = shares(&ring, names.len());
        let new = build(&weights.next(clients.carried(), &shares, period * PERIOD));
        if new != ring {
            counted.moved += moved((&ring, &names), (&new, &names));
            ring = new;
            plane.set_service(&spec(Arc::clone(&ring))?)?;
        }
        clients.play(PERIOD as f64, &mut plane);
        plane.pass_time(ticks_from_millis(PERIOD * 1_000));
        if (period * PERIOD).is_multiple_of(TICK) {
            plane.tick()?;
        }
        let row = if periods > 12 * hour {
            6 * hour
        } else {
            hour / 2
        };
        if period.is_multiple_of(row) {
            let now = lookups(&plane)?;
            counted.packets = now.0 - before.0;
            counted.lookups = now.1 - before.1;
            before = now;
            rows.push(line(period * PERIOD, &counted, &clients, &plane));
            counted = Counted::default();
        }
    }
    print(name, rows, &plane, &clients)
}

/// Packets, and those that consulted the flow table.
fn lookups(plane: &MemoryDataplane) -> anyhow::Result<(u64, u64)> {
    let stats = plane.stats()?;
    let service = &stats.services[0];
    Ok((
        service.total.packets + service.dropped.0,
        service.table_hits + service.table_misses,
    ))
}

fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}

fn line(
    seconds: u64,
    counted: &Counted,
    clients: &Connections,
    plane: &MemoryDataplane,
) -> Vec<String> {
    let status = plane.status();
    let all = status.slots.total() as f64;
    let SlotStates {
        in_window,
        exceptions,
        ..
    } = status.slots;
    let entries = status.tables.iter().find(|table| table.name == "FLOWS");
    vec![
        format!("{:.1}", seconds as f64 / 3_600.0),
        percent(counted.moved),
        percent(in_window as f64 / all),
        percent(exceptions as f64 / all),
        percent((in_window + exceptions) as f64 / all),
        percent(counted.lookups as f64 / counted.packets.max(1) as f64),
        entries.map_or(0, |table| table.used).to_string(),
        clients.broken().to_string(),
    ]
}

fn print(
    name: &str,
    rows: Vec<Vec<String>>,
    plane: &MemoryDataplane,
    clients: &Connections,
) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "HOURS",
        "RING MOVED",
        "IN WINDOW",
        "WITH EXCEPTIONS",
        "UNSETTLED",
        "PACKETS CONSULT",
        "ENTRIES",
        "BROKEN",
    ]);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        column.set_cell_alignment(CellAlignment::Right);
    }
    let flows = plane.stats()?.flow_table;
    println!(
        "\n{name}: {} connections at once, {REALS} reals, {} slots, window {} min\n{}\n{} flows refused, {} confirmed \
         entries evicted, {} connections moved to another real",
        clients.number(),
        plane.status().slots.total(),
        WINDOW.as_secs() / 60,
        table.trim_fmt(),
        flows.refused,
        flows.evicted_confirmed(),
        clients.broken()
    );
    anyhow::ensure!(
        clients.broken() == 0,
        "{} connections broke",
        clients.broken()
    );
    Ok(())
}
