//! `lb-agent real`.

use std::{
    fs::{self, File},
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use lb_agent::hangup::Hangup;
use lb_common::headers::udp::GUE_PORT;
use lb_dataplane::{options, real};
use lb_model::vip::{VipKey, check_unicast};
use lb_serve::{vital::Vital, watchdog::Watchdog};
use nix::{
    sched::{CloneFlags, setns},
    time::{ClockId, clock_gettime},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};

/// The vital part; see `lb_serve::vital`.
const UPKEEPER: &str = "the upkeep of this real";
/// How often interfaces, programs, addresses and settings are looked after.
const UPKEEP: Duration = Duration::from_secs(1);
/// How often the file of `--status` is written though nothing has changed.
const STATUS: Duration = Duration::from_secs(5);
/// A period that does not end, in practice.
const A_DAY: Duration = Duration::from_secs(86_400);

/// Arguments of `real`.
#[derive(Clone, Debug, clap::Args)]
pub struct Real {
    /// Interface the balancer's packets come in by; may be repeated
    #[arg(long, value_name = "IFACE", required = true, num_args = 1..)]
    iface: Vec<String>,

    /// VIP this host serves: an address, or a VIP as ADDRESS:PORT/PROTOCOL; may be repeated
    #[arg(long, value_name = "VIP", required = true, num_args = 1..)]
    vip: Vec<Vip>,

    /// How the balancer's packets reach this host
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,

    /// UDP port of the mode gue; that of the balancers' `gue_port`
    #[arg(long, value_name = "PORT", default_value_t = GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,

    /// Where the XDP program runs
    #[arg(long, value_enum, default_value_t)]
    xdp_mode: XdpMode,

    /// End if an interface is missing at the start, instead of waiting for it
    #[arg(long)]
    strict_interfaces: bool,

    /// Interface that answers leave by, if it is not the one the packets come in by; may be repeated
    #[arg(long, value_name = "IFACE", num_args = 1..)]
    reply_iface: Vec<String>,

    /// Print the counters every so many seconds (and on exit)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stats: Option<u64>,

    /// Become a real in this network namespace instead of the own one, for example /proc/PID/ns/net of a container: the
    /// program there needs no privilege and knows nothing of it
    #[arg(long, value_name = "FILE")]
    netns: Option<PathBuf>,

    /// Folder of the list of changes to undo [default: a folder of this network namespace below
    /// /run/lb-agent]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Keep in this file what is wrong now, for whoever looks after this process: the time by the monotonic clock in seconds,
    /// written every few seconds, and then `ready` or what is wrong, a line each
    #[arg(long, value_name = "FILE")]
    status: Option<PathBuf>,

    /// How long the upkeep may make no progress, 5s to 1h: this ends then, to be started again
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::watchdog)]
    watchdog: Duration,
}

/// How packets reach a real.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(super) enum Mode {
    /// In an outer IP header, which is taken off
    #[default]
    Ipip,
    /// In an outer IP and a UDP header, which are taken off
    Gue,
    /// With this host's MAC address; nothing is taken off
    L2,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum XdpMode {
    /// In the driver, else in the stack with a warning
    #[default]
    Auto,
    /// In the driver only
    Native,
    /// In the stack
    Generic,
}

/// An address, which may be written as a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vip(pub IpAddr);

impl FromStr for Vip {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return check_unicast(address)
                .map(|()| Vip(address))
                .map_err(|error| error.to_string());
        }
        text.parse::<VipKey>()
            .map(|vip| Vip(vip.address))
            .map_err(|error| format!("{error} (or write only the address)"))
    }
}

impl Real {
    pub fn execute(self) -> anyhow::Result<()> {
        if let Some(path) = &self.netns {
            // The process has one thread now, and the runtime below starts no other one for its work.
            enter(path)?;
        }
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?
            .block_on(self.serve())
    }

    fn options(&self) -> real::Options {
        real::Options {
            interfaces: self.iface.clone(),
            vips: self.vip.iter().map(|vip| vip.0).collect(),
            mode: match self.mode {
                Mode::Ipip => real::Mode::Ipip,
                Mode::Gue => real::Mode::Gue(self.gue_port),
                Mode::L2 => real::Mode::L2,
            },
            xdp_mode: match self.xdp_mode {
                XdpMode::Auto => options::XdpMode::Auto,
                XdpMode::Native => options::XdpMode::Native,
                XdpMode::Generic => options::XdpMode::Generic,
            },
            strict_interfaces: self.strict_interfaces,
            reply_interfaces: self.reply_iface.clone(),
            state: self.state.clone(),
        }
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP.
    async fn serve(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut hangup = Hangup::new().context("listening for SIGHUP")?;
        let options = self.options();
        let mut real = real::Real::set_up(&options).await?;
        for warning in real.warnings() {
            tracing::warn!("{warning}");
        }
        let mut status = Status::new(self.status);
        status.tell(&[]);
        let vips: Vec<String> = options.vips.iter().map(ToString::to_string).collect();
        print_line(&format!(
            "lb-agent: real ready for {} on {}",
            vips.join(", "),
            options.interfaces.join(", ")
        ));
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!("notifying the service manager that the real is ready: {error}");
        }
        let mut output = tokio::time::interval(self.stats.map_or(A_DAY, Duration::from_secs));
        output.tick().await;
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut problems = Vec::new();
        let mut failure = None;
        let mut vital = Vital::new();
        let pulse = Arc::default();
        let watchdog = Watchdog::new("lb-agent real", self.watchdog)
            // It works by itself, once a second.
            .watch(UPKEEPER, Arc::clone(&pulse), || {});
        watchdog.start(&vital).context("starting a thread")?;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                () = hangup.recv() => break,
                () = real.netlink_ended() => {
                    failure = Some(anyhow!(
                        "the connection to the kernel (rtnetlink) ended by itself; start `lb-agent real` again"
                    ));
                    break;
                }
                end = vital.next_end() => {
                    failure = Some(end.into_error());
                    break;
                }
                _ = output.tick(), if self.stats.is_some() => print_counters(&real),
                _ = upkeep.tick() => {
                    let _work = pulse.work();
                    let now = real.look_after().await;
                    tell(&problems, &now);
                    status.tell(&now);
                    problems = now;
                }
            }
        }
        // There may be no service manager.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        print_counters(&real);
        let finished = real.finish().await;
        failure.map_or(finished, Err)
    }
}

/// Moves this thread into a network namespace. Settings below `/proc/sys/net` and netlink sockets are those of the thread that
/// opens them.
fn enter(path: &Path) -> anyhow::Result<()> {
    let namespace = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).with_context(|| {
        format!(
            "entering the network namespace {} (this needs root)",
            path.display()
        )
    })
}

/// Logs each problem once, not at every look, and says when none is left. A service manager shows the newest.
fn tell(before: &[String], now: &[String]) {
    for problem in now.iter().filter(|problem| !before.contains(problem)) {
        tracing::error!("{problem}");
    }
    if before == now {
        return;
    }
    let status = match now {
        [] => {
            tracing::info!("every interface, program, address and setting is as it should be");
            "ready"
        }
        [first, ..] => first,
    };
    // There may be no service manager.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Status(status)]);
}

/// The file that says what is wrong now. `lb-drivers` reads those of instances' reals.
struct Status {
    path: Option<PathBuf>,
    last: Option<(Duration, Vec<String>)>,
}

impl Status {
    const fn new(path: Option<PathBuf>) -> Self {
        Status { path, last: None }
    }

    /// Writes it if something has changed, and now and then.
    fn tell(&mut self, problems: &[String]) {
        let Some(path) = &self.path else {
            return;
        };
        // The kernel has this clock, and all processes see the same.
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from) else {
            return;
        };
        let is_fresh = |(at, last): &(Duration, Vec<String>)| {
            now.saturating_sub(*at) < STATUS && last == problems
        };
        if self.last.as_ref().is_some_and(is_fresh) {
            return;
        }
        let words = match problems {
            [] => "ready".to_owned(),
            problems => problems.join("\n"),
        };
        if let Err(error) = fs::write(path, format!("{}\n{words}\n", now.as_secs())) {
            tracing::warn!("writing {}: {error}", path.display());
        }
        self.last = Some((now, problems.to_vec()));
    }
}

/// Prints a line. A closed pipe is no reason to end without undoing the changes.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints one line per interface: the frames, then every reason that occurred.
fn print_counters(real: &real::Real) {
    match real.counters() {
        Ok(counters) => counters
            .iter()
            .for_each(|counters| print_line(&counters.to_string())),
        Err(error) => tracing::warn!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_are_addresses_or_vips() {
        let vip = |text: &str| text.parse().map(|Vip(address)| address.to_string());
        assert_eq!(vip("192.0.2.1"), Ok("192.0.2.1".to_owned()));
        assert_eq!(vip("2001:db8::1"), Ok("2001:db8::1".to_owned()));
        assert_eq!(vip("[2001:db8::1]:80/tcp"), Ok("2001:db8::1".to_owned()));
        for wrong in [
            "",
            "127.0.0.1",
            "224.0.0.1",
            "192.0.2.1:80",
            "192.0.2.1/32",
            "name",
        ] {
            assert!(wrong.parse::<Vip>().is_err(), "{wrong}");
        }
    }
}
