//! Kernel memory of the tables.

use anyhow::ensure;
use comfy_table::Table;
use lb_dataplane::{DEFAULT_FLOW_ENTRIES, Dataplane as _};
use serde::Serialize;

use crate::{
    balancer::{Balancer, Mode, service},
    packets,
};

/// Kernel memory in one state.
#[derive(Debug, Serialize)]
pub struct MemoryFigure {
    /// What is configured.
    pub state: &'static str,
    /// Live entries of the flow table.
    pub exceptions: u64,
    /// Bytes of all tables, as accounted by the kernel.
    pub bytes: u64,
    /// The largest tables: name and bytes.
    pub largest: Vec<(&'static str, u64)>,
}

/// Measures and prints.
pub fn measure() -> anyhow::Result<Vec<MemoryFigure>> {
    let mut figures = Vec::new();
    let mut idle = Balancer::start(DEFAULT_FLOW_ENTRIES)?;
    figures.push(figure("idle, no VIP", &mut idle)?);
    idle.set_mode(Mode::Exceptions)?;
    packets::send_flows(&mut idle, 1)?;
    figures.push(figure("two VIPs of 64 reals", &mut idle)?);
    drop(idle);
    let mut large = Balancer::start(1 << 20)?;
    for number in 1..=100 {
        large.set(&service(number, 100, 100))?;
    }
    figures.push(figure(
        "100 VIPs of 100 reals, room for 1M exceptions",
        &mut large,
    )?);
    large.set_mode(Mode::Exceptions)?;
    packets::send_flows(&mut large, 1 << 20)?;
    figures.push(figure(
        "the same and two VIPs of 64 reals, 1M flows seen",
        &mut large,
    )?);
    let mut table = Table::new();
    table.set_header(["state", "live entries", "MiB", "largest tables"]);
    for figure in &figures {
        let largest: Vec<String> = figure
            .largest
            .iter()
            .map(|(name, bytes)| format!("{name} {:.1}", mebibytes(*bytes)))
            .collect();
        table.add_row([
            figure.state.to_owned(),
            figure.exceptions.to_string(),
            format!("{:.2}", mebibytes(figure.bytes)),
            largest.join(", "),
        ]);
    }
    println!("\nKernel memory of the tables\n{table}");
    Ok(figures)
}

fn figure(state: &'static str, balancer: &mut Balancer) -> anyhow::Result<MemoryFigure> {
    let flows = balancer.enter(|plane| plane.flows())??;
    let status = balancer.status();
    let mut largest: Vec<(&'static str, u64)> = status
        .tables
        .iter()
        .map(|table| (table.name, table.bytes))
        .collect();
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let bytes = largest.iter().map(|(_, bytes)| bytes).sum();
    ensure!(bytes > 0, "the kernel does not report the memory of maps");
    largest.truncate(4);
    Ok(MemoryFigure {
        state,
        exceptions: flows.iter().map(|real| real.entries).sum(),
        bytes,
        largest,
    })
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
