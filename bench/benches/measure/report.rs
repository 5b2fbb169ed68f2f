//! The results, as JSON.

use std::{fs, path::Path, time::SystemTime};

use anyhow::Context as _;
use lb_bench::machine;
use serde::Serialize;

use crate::{
    failover::FailoverFigure, idle::IdleFigure, memory::MemoryFigure, moving::MovingFigure,
    packets::PacketFigure, pools::PoolsFigure, probes::ProbeFigure, readers::ReaderFigure,
    resident::ResidentFigure, ring::RingFigure, starts::StartFigure, supervised::SupervisedFigure,
    throughput::ThroughputFigure, weights::WeightFigure,
};

/// The results of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Seconds since 1970.
    pub time: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// Number of the processor.
    pub cpu: usize,
    /// Nanoseconds per packet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packets: Vec<PacketFigure>,
    /// Time to build rings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ring: Vec<RingFigure>,
    /// Time to change a weight.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<WeightFigure>,
    /// Kernel memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<MemoryFigure>,
    /// Packets per second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throughput: Vec<ThroughputFigure>,
    /// CPU time of an idle agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleFigure>,
    /// CPU time of probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<ProbeFigure>,
    /// Cost of readers of load.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<ReaderFigure>,
    /// Cost of supervising reals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supervised: Option<SupervisedFigure>,
    /// Memory of an agent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resident: Vec<ResidentFigure>,
    /// Cost of idle pools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<PoolsFigure>,
    /// How soon instances of pools serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub starts: Vec<StartFigure>,
    /// Failover of the clients of dead brokers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<FailoverFigure>,
    /// Long connections while weights changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moving: Option<MovingFigure>,
}

impl Report {
    /// Creates an empty report about this machine.
    pub fn new(cpu: usize) -> anyhow::Result<Report> {
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .context("the clock shows a time before 1970")?
            .as_secs();
        let report = Report {
            time,
            kernel: machine::kernel()?,
            processor: machine::processor()?,
            cpu,
            packets: Vec::new(),
            ring: Vec::new(),
            weights: Vec::new(),
            memory: Vec::new(),
            throughput: Vec::new(),
            idle: None,
            probes: None,
            readers: Vec::new(),
            supervised: None,
            resident: Vec::new(),
            pools: None,
            starts: Vec::new(),
            failover: Vec::new(),
            moving: None,
        };
        println!(
            "Linux {}, {}, processor {cpu}",
            report.kernel, report.processor
        );
        Ok(report)
    }

    /// Writes the report to a file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n")
            .with_context(|| format!("writing the results to {}", file.display()))
    }
}
