//! Settings of the agent as a whole.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use lb_common::{headers::udp::GUE_PORT, limits::MAX_INTERFACES};
use lb_dataplane::options::{
    DEFAULT_FLOW_ENTRIES, DEFAULT_NAT_CONNECTIONS, DEFAULT_NAT_PORTS, DEFAULT_PINS,
    DEFAULT_SOURCE_V4, DEFAULT_SOURCE_V6, MAX_NAT_SOURCES, PortRange, SourcePrefix, XdpMode,
};
use lb_model::{settings::FieldError, vip::check_unicast};
use lb_serve::Endpoint;

/// Where the database is by default.
pub const DEFAULT_STATE: &str = "/var/lib/lb-agent";
/// More than any piece of work takes, such as a commit to a slow disk.
const DEFAULT_WATCHDOG: Duration = Duration::from_secs(60);
/// Longest name of an interface in Linux, in bytes.
const MAX_INTERFACE_NAME: usize = 15;
/// Most addresses at which tunnels end.
const MAX_TUNNEL_ENDS: usize = 1_024;

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
        /// UDP destination port of the mode `gue`, on the balancer and at the ends of its tunnels.
        gue_port: u16 = GUE_PORT, 1..=u16::MAX;
        /// Addresses of the balancer at which tunnels (IP in IP, `gue`) end: what comes out of them is balanced, or passed to
        /// the host. Each once; 1,024 at most.
        tunnel_ends: Vec<IpAddr> = Vec::new();
        /// Flows that the flow table has room for, 1,024 to 16,777,216; a number outside is brought inside.
        flow_entries: u32 = DEFAULT_FLOW_ENTRIES;
        /// Addresses of this balancer from which mode `nat` reaches IPv4 reals, 8 at most, which no other balancer has. The host
        /// has them, so that it answers ARP for them.
        nat_source_v4: Vec<IpAddr> = Vec::new();
        /// The same for IPv6 reals.
        nat_source_v6: Vec<IpAddr> = Vec::new();
        /// Source ports of mode `nat`, `FIRST-LAST`. The kernel must not give them to connections of the host
        /// (`net.ipv4.ip_local_port_range`).
        nat_ports: PortRange = DEFAULT_NAT_PORTS;
        /// Connections of mode `nat` that there is room for, 2,048 to 4,194,304; a number outside is brought inside.
        nat_connections: u32 = DEFAULT_NAT_CONNECTIONS;
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
        tunnel_ends(&agent.tunnel_ends).map_err(|error| error.within("tunnel_ends"))?;
        for (field, prefix, is_v4, example) in [
            ("outer_source_v4", &agent.outer_source_v4, true, "an IPv4 prefix, such as 198.18.0.0/16"),
            ("outer_source_v6", &agent.outer_source_v6, false, "an IPv6 prefix, such as 2001:2::/96"),
        ] {
            if prefix.address().is_ipv4() != is_v4 {
                return Err(FieldError::new(field, prefix, format!("give {example}")));
            }
        }
        nat_sources("nat_source_v4", &agent.nat_source_v4, IpAddr::is_ipv4)?;
        nat_sources("nat_source_v6", &agent.nat_source_v6, IpAddr::is_ipv6)
    }
}

impl Default for AgentSettings {
    fn default() -> Self {
        lb_model::settings::defaults()
    }
}

fn nat_sources(
    field: &str,
    sources: &[IpAddr],
    is_of_family: fn(&IpAddr) -> bool,
) -> Result<(), FieldError> {
    if sources.len() > MAX_NAT_SOURCES {
        let advice = format!("too many, give {MAX_NAT_SOURCES} addresses at most");
        return Err(FieldError::new(field, sources.len(), advice));
    }
    let is_wrong = |source: &&IpAddr| !is_of_family(source) || check_unicast(**source).is_err();
    match sources.iter().find(is_wrong) {
        Some(source) => Err(FieldError::new(
            field,
            source,
            "give addresses of this host that it can be reached by, of the family that the name says",
        )),
        None => Ok(()),
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

fn tunnel_ends(addresses: &[IpAddr]) -> Result<(), FieldError> {
    if addresses.len() > MAX_TUNNEL_ENDS {
        let advice = format!("too many, give at most {MAX_TUNNEL_ENDS}");
        return Err(FieldError::new("", addresses.len(), advice));
    }
    let mut seen = BTreeSet::new();
    for address in addresses {
        check_unicast(*address).map_err(|error| FieldError::new("", address, error.to_string()))?;
        if !seen.insert(address) {
            return Err(FieldError::new(
                "",
                address,
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
