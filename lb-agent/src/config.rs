//! The configuration file: TOML, unknown fields are errors.
//!
//! What the command line says counts more than the file, the file more than the defaults. VIPs of the file
//! are added at start if they are not stored yet; from then on they belong to the API.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use lb_common::limits::MAX_INTERFACES;
use lb_model::vip::VipAddress;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::intent::{Change, Intent, RealPatch, Refusal, VipPatch, WhenEmpty, change::Set};
use lb_clients::health::spec::{Check, CheckOverride};
use lb_clients::load::spec::{Source, SourceOverride};
use lb_clients::shedding::ShedBy;
use lb_dataplane::options::{SourcePrefix, XdpMode};
use lb_model::duration;
use lb_model::options::{Forward, OnDown, Track};
use lb_model::ring::Algorithm;
use lb_serve::Endpoint;
use lb_steering::spec::Steering;

/// What the configuration file says. What it does not say is none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Interfaces to attach to.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// How to attach.
    pub xdp_mode: Option<XdpMode>,
    /// Where the API listens: `unix:PATH` or `http://ADDRESS:PORT` (loopback).
    #[serde(default)]
    pub listen: Vec<Endpoint>,
    /// Where metrics are served, `ADDRESS:PORT`. Default: nowhere.
    #[serde(default, deserialize_with = "metrics_address")]
    pub metrics: Option<SocketAddr>,
    /// Directory of the database.
    pub state: Option<PathBuf>,
    /// Directory of the pins, on a BPF file system.
    pub pins: Option<PathBuf>,
    /// Seed of the rings, the same on every balancer of a fleet.
    pub ring_seed: Option<u64>,
    /// Prefix of the outer source addresses of IPv4.
    #[serde(default, deserialize_with = "prefix_v4")]
    pub outer_source_v4: Option<SourcePrefix>,
    /// Prefix of the outer source addresses of IPv6.
    #[serde(default, deserialize_with = "prefix_v6")]
    pub outer_source_v6: Option<SourcePrefix>,
    /// Flows the flow table has room for.
    pub flow_entries: Option<u32>,
    /// Whether checks may run programs (`exec`). Default: no.
    pub exec_checks: Option<bool>,
    /// The kernel programs' own log.
    pub kernel_log: Option<KernelLog>,
    /// VIPs to add at start if they are not stored.
    #[serde(default, rename = "vip")]
    pub vips: Vec<VipConfig>,
}

/// Which of the kernel programs' messages are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    /// None; the programs are loaded without their log, so it costs nothing.
    #[default]
    Off,
    /// Errors; there are none yet.
    Error,
    /// Warnings; there are none yet.
    Warn,
    /// Packets for VIPs that are dropped, with the reason.
    Info,
    /// And the real of each flow that begins, or is met first, where the flow table has a say.
    Debug,
    /// And the real of every packet.
    Trace,
}

impl KernelLog {
    /// The level; none if nothing is logged.
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

/// A VIP of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VipConfig {
    /// `ADDRESS:PORT/PROTOCOL`.
    #[serde(deserialize_with = "vip_address")]
    pub address: VipAddress,
    /// Default: ipip.
    pub forward: Option<Forward>,
    /// Default: rendezvous.
    pub ring: Option<Algorithm>,
    /// Default: exceptions.
    pub track: Option<Track>,
    /// As `90s`, `2m`, `1h` or `30d`. Default: 1 h for TCP, 2 min for UDP.
    #[serde(default, with = "duration::optional")]
    pub window: Option<Duration>,
    /// Default: grows with the number of reals.
    pub slots: Option<u32>,
    /// What its reals are asked; default: nothing, they are taken for alive.
    pub check: Option<Check>,
    /// Default: rehash.
    pub on_down: Option<OnDown>,
    /// Default: drop.
    pub when_empty: Option<WhenEmpty>,
    /// Where the load of its reals is read.
    #[serde(default)]
    pub load: Vec<Source>,
    /// How health and load become weights.
    pub steering: Option<Steering>,
    /// See [`crate::intent::VipSpec::shed`].
    #[serde(default)]
    pub shed: Option<ShedBy>,
    /// Its reals.
    #[serde(default, rename = "real")]
    pub reals: Vec<RealConfig>,
}

/// A real of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealConfig {
    /// Its address.
    #[serde(deserialize_with = "real_address")]
    pub address: IpAddr,
    /// Default: 100.
    pub weight: Option<u32>,
    /// Default: false.
    pub drained: Option<bool>,
    /// What is different in its check.
    pub check: Option<CheckOverride>,
    /// What is different where its load is read.
    #[serde(default)]
    pub load: Vec<SourceOverride>,
}

fn prefix_v4<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SourcePrefix>, D::Error> {
    let prefix = prefix(deserializer)?;
    if prefix.address().is_ipv4() {
        Ok(Some(prefix))
    } else {
        Err(D::Error::custom(format!(
            "{prefix} is no IPv4 prefix; write one like 198.18.0.0/16"
        )))
    }
}

fn prefix_v6<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SourcePrefix>, D::Error> {
    let prefix = prefix(deserializer)?;
    if prefix.address().is_ipv6() {
        Ok(Some(prefix))
    } else {
        Err(D::Error::custom(format!(
            "{prefix} is no IPv6 prefix; write one like 2001:2::/96"
        )))
    }
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SourcePrefix, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

fn metrics_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        D::Error::custom(format!(
            "{text}: not ADDRESS:PORT; write {}, or an address of this host that Prometheus reaches",
            crate::metrics::EXAMPLE_ADDRESS
        ))
    })
}

fn vip_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<VipAddress, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| D::Error::custom(format!("{text}: {error}")))
}

fn real_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text}: write a real as an address alone, for example 10.1.0.2 or 2001:db8::2; packets keep the \
             VIP's port"
        ))
    })
}

/// Whether the kernel could have an interface of this name.
fn is_interface_name(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
    (1..=15).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(odd)
}

/// Why a configuration file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is no TOML, or says what cannot be said.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and cause.
        source: Box<toml::de::Error>,
    },
    /// It wants what cannot be.
    #[error("{path}: {place}: {refusal}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The VIP and the real.
        place: String,
        /// The field and the value, as the file names them.
        refusal: String,
    },
    /// The agent cannot attach to these interfaces.
    #[error("{path}: interfaces: {fault}")]
    Interfaces {
        /// The file.
        path: PathBuf,
        /// What is wrong with them and what would be right.
        fault: String,
    },
}

impl Config {
    /// Reads and checks a file: every VIP and real by the rules that the API has.
    ///
    /// # Errors
    /// [`ConfigError`] with the place and what would be right.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let config: Config = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        self.check_interfaces()
            .map_err(|fault| ConfigError::Interfaces {
                path: path.to_owned(),
                fault,
            })?;
        self.intent()
            .map_err(|(place, refusal)| ConfigError::Refused {
                path: path.to_owned(),
                place,
                // That is how the API names what stands at the top here.
                refusal: refusal.to_string().trim_start_matches("spec.").to_owned(),
            })?;
        Ok(())
    }

    fn check_interfaces(&self) -> Result<(), String> {
        let count = self.interfaces.len();
        if count > MAX_INTERFACES as usize {
            return Err(format!("{count} of them; give at most {MAX_INTERFACES}"));
        }
        let mut names = BTreeSet::new();
        for name in &self.interfaces {
            if !is_interface_name(name) {
                return Err(format!(
                    "{name:?}: no interface's name; it has 1 to 15 characters, none of them a space, / or :"
                ));
            }
            if !names.insert(name) {
                return Err(format!("{name} is given twice; name each once"));
            }
        }
        Ok(())
    }

    /// The changes that add the VIPs, each with its reals. Which VIP stands in for which comes last: whatever their
    /// order in the file, they are there by then.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let fallbacks = self.vips.iter().filter_map(VipConfig::fallback);
        self.vips
            .iter()
            .flat_map(VipConfig::changes)
            .chain(fallbacks)
            .collect()
    }

    /// What there is once all VIPs are added; or where that is refused, and why.
    fn intent(&self) -> Result<Intent, (String, Refusal)> {
        let mut intent = Intent::default();
        for change in self.changes() {
            let vip = match change.apply(&intent) {
                Ok(vip) => vip,
                Err(refusal) => return Err((change.place(), refusal)),
            };
            intent.replace(*change.vip(), vip);
        }
        Ok(intent)
    }

    /// VIPs whose checks run programs.
    #[must_use]
    pub fn running_programs(&self) -> Vec<VipAddress> {
        let runs = |vip: &&VipConfig| vip.check.as_ref().is_some_and(Check::runs_program);
        self.vips
            .iter()
            .filter(runs)
            .map(|vip| vip.address)
            .collect()
    }
}

impl VipConfig {
    /// The change that names the VIP whose reals stand in, if one does.
    fn fallback(&self) -> Option<Change> {
        let fallback @ WhenEmpty::Fallback(_) = self.when_empty? else {
            return None;
        };
        Some(Change::UpdateVip {
            vip: self.address,
            patch: VipPatch {
                when_empty: Some(Set::To(fallback)),
                ..VipPatch::default()
            },
        })
    }

    /// The changes that add this VIP with its reals, without its fallback.
    fn changes(&self) -> Vec<Change> {
        let vip = self.address;
        let when_empty = self
            .when_empty
            .filter(|when| !matches!(when, WhenEmpty::Fallback(_)));
        let patch = VipPatch {
            forward: self.forward.map(Set::To),
            ring: self.ring.map(Set::To),
            track: self.track.map(Set::To),
            window: self.window.map(Set::To),
            slots: self.slots.map(Set::To),
            check: self.check.clone().map(Set::To),
            on_down: self.on_down.map(Set::To),
            when_empty: when_empty.map(Set::To),
            load: (!self.load.is_empty()).then(|| Set::To(self.load.clone())),
            steering: self.steering.clone().map(Set::To),
            shed: self.shed.clone().map(Set::To),
        };
        let real = |real: &RealConfig| Change::AddReal {
            vip,
            real: real.address,
            patch: RealPatch {
                weight: real.weight.map(Set::To),
                drained: real.drained.map(Set::To),
                check: real.check.clone().map(Set::To),
                load: (!real.load.is_empty()).then(|| Set::To(real.load.clone())),
            },
        };
        std::iter::once(Change::AddVip { vip, patch })
            .chain(self.reals.iter().map(real))
            .collect()
    }
}

#[cfg(test)]
mod tests;
