//! `lb-agent real`: makes this host a real of some VIPs, and undoes it on exit.
//!
//! A real answers clients directly. For that it needs
//! - the VIP as an address of its own, on the loopback interface (/32, /128), where no neighbour sees it;
//! - silence about it: `arp_ignore` and `arp_announce`. The kernel takes the larger of `all` and the
//!   interface's own value, so `all` is raised. Neighbour discovery is silent by itself: IPv6 answers
//!   only for addresses of the interface that is asked;
//! - packets whose way back leads elsewhere: a strict `rp_filter` is made loose on the interface;
//! - in mode `ipip` the programs of `lb-ebpf`'s `decap`: one takes the outer header off; the other lowers
//!   the segment size of SYN-ACKs from VIPs. (`advmss` on routes would touch all of the host's
//!   connections and race with DHCP, router advertisements and routing daemons, who own the routes; a
//!   firewall rule would need nftables and survive a kill. A program lives as long as this process.)
//!
//! What is changed is written down before it is changed ([`journal`]), so that exactly that is undone: on
//! exit, or after a kill by the next run with the same state.

mod address;
mod journal;
mod program;
mod setup;
mod sysctl;

use std::{io::Write as _, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use anyhow::Context as _;
use lb_model::vip::{VipAddress, check_unicast};
use tokio::signal::unix::{SignalKind, signal};

pub use program::InterfaceCounters;
pub use setup::Real;

/// Make this host a real of some VIPs, and undo it on exit.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Interface the balancer's packets come in by; may be repeated
    #[arg(long = "iface", value_name = "IFACE", required = true, num_args = 1..)]
    pub interfaces: Vec<String>,

    /// VIP this host serves: an address, or a VIP as ADDRESS:PORT/PROTOCOL; may be repeated
    #[arg(long = "vip", value_name = "VIP", required = true, num_args = 1..)]
    pub vips: Vec<Vip>,

    /// How the balancer's packets reach this host
    #[arg(long, value_enum, default_value_t)]
    pub mode: Mode,

    /// Where the XDP program runs
    #[arg(long, value_enum, default_value_t)]
    pub xdp_mode: XdpMode,

    /// Interface that answers leave by, if it is not the one the packets come in by; may be repeated
    #[arg(long = "reply-iface", value_name = "IFACE", num_args = 1..)]
    pub reply_interfaces: Vec<String>,

    /// Print the counters every so many seconds (and on exit)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub stats: Option<u64>,

    /// Folder of the list of changes to undo [default: a folder of this network namespace below
    /// /run/lb-agent]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

/// How packets reach a real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// In an outer IP header, which is taken off
    #[default]
    Ipip,
    /// With this host's MAC address; nothing is taken off
    L2,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum XdpMode {
    /// In the driver, else in the stack with a warning
    #[default]
    Auto,
    /// In the driver only
    Native,
    /// In the stack
    Generic,
}

/// A VIP as the real sees it: an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip(pub IpAddr);

impl FromStr for Vip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return check_unicast(address)
                .map(|()| Vip(address))
                .map_err(|error| error.to_string());
        }
        text.parse::<VipAddress>()
            .map(|vip| Vip(vip.address))
            .map_err(|error| format!("{error} (or write only the address)"))
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If something cannot be set up (then what was set up is undone) or undone (then the next run tries
/// again).
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut real = Real::set_up(&options).await?;
    for warning in real.warnings() {
        tracing::warn!("{warning}");
    }
    say(&format!(
        "lb-agent: real ready for {} on {}",
        list(&options.vips),
        options.interfaces.join(", ")
    ));
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!("telling the service manager that the real is ready: {error}");
    }
    // A day is as good as never for who wants no output; the changed MTU is followed all the same.
    let mut output = tokio::time::interval(Duration::from_secs(options.stats.unwrap_or(86_400)));
    output.tick().await;
    let mut upkeep = tokio::time::interval(Duration::from_secs(5));
    let mut trouble = String::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = output.tick(), if options.stats.is_some() => print(&real),
            _ = upkeep.tick() => {
                let now = real.follow_mtu().await.err().map_or(String::new(), |error| format!("{error:#}"));
                // Once, not every five seconds.
                if now != trouble && !now.is_empty() {
                    tracing::warn!("{now}");
                }
                trouble = now;
            }
        }
    }
    print(&real);
    real.finish().await
}

fn list(vips: &[Vip]) -> String {
    vips.iter()
        .map(|vip| vip.0.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Prints a line. That nobody reads it (a closed pipe) is no reason to end without undoing.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One line per interface: the frames, then every reason that occurred.
fn print(real: &Real) {
    match real.counters() {
        Ok(counters) => counters
            .iter()
            .for_each(|counters| say(&counters.to_string())),
        Err(error) => tracing::warn!("{error:#}"),
    }
}

#[cfg(test)]
mod tests;
