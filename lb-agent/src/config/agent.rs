//! Settings of the agent as a whole.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use lb_common::limits::MAX_INTERFACES;
use lb_dataplane::options::{
    DEFAULT_FLOW_ENTRIES, DEFAULT_PINS, DEFAULT_SOURCE_V4, DEFAULT_SOURCE_V6, SourcePrefix, XdpMode,
};
use lb_model::settings::FieldError;
use lb_serve::Endpoint;

/// Where the database is by default.
pub const DEFAULT_STATE: &str = "/var/lib/lb-agent";
/// More than any piece of work takes, such as a commit to a slow disk.
const DEFAULT_WATCHDOG: Duration = Duration::from_secs(60);
/// Longest name of an interface in Linux, in bytes.
const MAX_INTERFACE_NAME: usize = 15;

lb_model::choice! {
    /// From which level on the kernel programs' own messages are logged.
    #[derive(clap::ValueEnum)]
    pub enum KernelLog = Off {
        /// Nothing; the programs are loaded without their log, which then costs nothing.
        Off = "off",
        /// Errors; there are none yet.
        Error = "error",
        /// Warnings; there are none yet.
        Warn = "warn",
        /// Packets for VIPs that are dropped, with the reason.
        Info = "info",
        /// Also the real of each flow that begins, or is seen first, where the flow table is consulted.
        Debug = "debug",
        /// Also the real of every packet.
        Trace = "trace",
    }
}

impl KernelLog {
    /// The level, `None` if nothing is logged.
    #[must_use]
    pub const fn level(self) -> Option<log::Level> {
        match self {
            KernelLog::Off => None,
            KernelLog::Error => Some(log::Level::Error),
            KernelLog::Warn => Some(log::Level::Warn),
            KernelLog::Info => Some(log::Level::Info),
            KernelLog::Debug => Some(log::Level::Debug),
            KernelLog::Trace => Some(log::Level::Trace),
        }
    }
}

lb_model::settings! {
    /// Settings of the agent as a whole; the command line overrides them.
    pub struct AgentSettings {
        /// Interfaces that packets come in by, each once; one at least, here or with `--iface`.
        interfaces: Vec<String> = Vec::new();
        /// Where the program runs (`--xdp-mode`): `native` in the driver, `generic` in the kernel's network stack, `auto` in
        /// the driver where it can, else in the stack with a warning.
        xdp_mode: XdpMode = XdpMode::Auto;
        /// Where the API listens (`--listen`): `unix:PATH`, or `http://ADDRESS:PORT` with a loopback address.
        listen: Vec<Endpoint> = vec![Endpoint::default()];
        /// Where metrics are served (`--metrics`), `ADDRESS:PORT`; any address of the host, since metrics change nothing.
        /// Without it nowhere.
        metrics: Option<SocketAddr> = None;
        /// Directory of the database (`--state`).
        state: String = DEFAULT_STATE.to_owned();
        /// Directory of the pinned programs and tables (`--pins`), on a BPF file system.
        pins: String = DEFAULT_PINS.to_owned();
        /// Seed of the rings: balancers with the same seed, VIPs, reals and effective weights choose the same reals.
        ring_seed: u64 = 0, 0..=i64::MAX.unsigned_abs();
        /// Network of the outer source addresses to IPv4 reals, `ADDRESS/LENGTH`. The host bits vary by flow, so that a
        /// real's NIC spreads the load over its queues.
        outer_source_v4: SourcePrefix = DEFAULT_SOURCE_V4;
        /// The same to IPv6 reals; at most the last 32 bits vary.
        outer_source_v6: SourcePrefix = DEFAULT_SOURCE_V6;
        /// Flows that the flow table has room for, 1,024 to 16,777,216; a number outside is brought inside.
        flow_entries: u32 = DEFAULT_FLOW_ENTRIES;
        /// Whether checks may run programs (`exec`), as the agent's user (`--exec-checks`).
        exec_checks: bool = false;
        /// From which level on the kernel programs' own messages are logged (`--kernel-log`).
        kernel_log: KernelLog = KernelLog::Off;
        /// How long a vital part may make no progress. The agent ends then, and the service manager starts it again; packets
        /// flow on meanwhile.
        watchdog: Duration = DEFAULT_WATCHDOG, Duration::from_secs(5)..=Duration::from_secs(3_600);
    }
    validate(agent) {
        interfaces(&agent.interfaces).map_err(|error| error.within("interfaces"))?;
        for (field, prefix, is_v4, example) in [
            ("outer_source_v4", &agent.outer_source_v4, true, "an IPv4 prefix, such as 198.18.0.0/16"),
            ("outer_source_v6", &agent.outer_source_v6, false, "an IPv6 prefix, such as 2001:2::/96"),
        ] {
            if prefix.address().is_ipv4() != is_v4 {
                return Err(FieldError::new(field, prefix, format!("give {example}")));
            }
        }
        Ok(())
    }
}

impl Default for AgentSettings {
    fn default() -> Self {
        lb_model::settings::defaults()
    }
}

fn interfaces(names: &[String]) -> Result<(), FieldError> {
    if names.len() > MAX_INTERFACES as usize {
        let advice = format!("too many, give at most {MAX_INTERFACES}");
        return Err(FieldError::new("", names.len(), advice));
    }
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_interface_name(name) {
            return Err(FieldError::new(
                "",
                format!("{name:?}"),
                "not the name of an interface; it has 1 to 15 characters, none of them a space, / or :",
            ));
        }
        if !seen.insert(name) {
            return Err(FieldError::new(
                "",
                name,
                "it is given twice; name each once",
            ));
        }
    }
    Ok(())
}

/// Whether the kernel could have an interface of this name.
fn is_interface_name(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
    (1..=MAX_INTERFACE_NAME).contains(&name.len())
        && !matches!(name, "." | "..")
        && !name.contains(odd)
}
