//! The configuration file: TOML, unknown settings are errors.
//!
//! The command line overrides the file, the file overrides the defaults. VIPs and reals of the file belong to it: at start
//! and at each reload they are made what it says ([`lb_model::intent::follow()`]).

mod agent;

use std::path::Path;

use lb_clients::health::capacity::Demand;
use lb_model::{
    document::{self, Fault, FileError, take_tables},
    intent::{Change, Intent, Owner, Patch, Refusal, WhenEmpty, Writer},
    settings::{self, Map, SettingType as _, Value},
    vip::{RealId, VipKey},
};

use crate::KINDS;
pub use agent::{AgentSettings, DEFAULT_STATE, KernelLog};

/// The settings of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Settings of the agent as a whole.
    pub agent: AgentSettings,
    /// The VIPs and reals of the file.
    pub intent: Intent,
}

/// A VIP of the file.
#[derive(Clone, Debug)]
struct VipConfig {
    /// Its name.
    address: VipKey,
    /// Its settings that are not the default.
    spec: Patch,
    /// Its reals.
    reals: Vec<RealConfig>,
}

/// A real of the file.
#[derive(Clone, Debug)]
struct RealConfig {
    /// Its name.
    address: RealId,
    /// Its settings that are not the default.
    spec: Patch,
}

impl Config {
    /// Reads and checks a file: every VIP and real by the rules of the API.
    ///
    /// # Errors
    /// [`FileError`] with the line, the object, and what would be right.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = document::read(path)?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file, which errors call `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        document::parse(text, path, Config::from_settings)
    }

    fn from_settings(mut root: Map<String, Value>) -> Result<Self, Fault> {
        let vips =
            take_tables(&mut root, "vip").map_err(|error| Fault::new(String::new(), "", error))?;
        let agent =
            settings::from_map(&root).map_err(|error| Fault::new(String::new(), "", error))?;
        let vips = vips.into_iter().enumerate();
        let vips = vips.map(|(position, table)| VipConfig::from_table(table, position));
        let vips: Vec<VipConfig> = vips.collect::<Result<_, _>>()?;
        Ok(Config {
            agent,
            intent: intent(&vips)?,
        })
    }

    /// The probes that the VIPs ask for.
    #[must_use]
    pub fn probes(&self) -> Demand {
        let mut demand = Demand::default();
        for vip in self.intent.vips() {
            demand.add(vip);
        }
        demand
    }
}

/// The changes that add the VIPs, each with its reals and with the path of its object in the document. Which VIP stands in
/// for which comes last, so that the VIPs may stand in any order in the file.
fn located_changes(vips: &[VipConfig]) -> impl Iterator<Item = (String, Change)> {
    let vips = || vips.iter().enumerate();
    let fallbacks =
        vips().filter_map(|(position, vip)| Some((format!("vip[{position}]"), vip.fallback()?)));
    vips()
        .flat_map(|(position, vip)| vip.changes(position))
        .chain(fallbacks)
}

/// All VIPs as they are once they are added.
fn intent(vips: &[VipConfig]) -> Result<Intent, Fault> {
    let mut intent = Intent::default();
    let writer = Writer::of(Owner::File);
    for (path, change) in located_changes(vips) {
        match change.apply(&intent, &writer, &KINDS) {
            Ok(vip) => drop(intent.replace(*change.vip(), vip)),
            Err(Refusal::Invalid(mut error)) => {
                // The API's names of what has no name of its own here.
                let field = error.field.trim_start_matches("spec.");
                error.field = field.trim_start_matches("id.").to_owned();
                return Err(Fault::new(path, &change.object(), error));
            }
            Err(refusal) => {
                return Err(Fault {
                    path,
                    text: format!("{}: {refusal}", change.object()),
                });
            }
        }
    }
    Ok(intent)
}

impl VipConfig {
    fn from_table(mut table: Map<String, Value>, position: usize) -> Result<Self, Fault> {
        let path = format!("vip[{position}]");
        let address: VipKey = settings::take_field(&mut table, "address", None)
            .map_err(|error| Fault::new(path.clone(), &path, error))?;
        let object = format!("VIP {address}");
        let reals = take_tables(&mut table, "real")
            .map_err(|error| Fault::new(path.clone(), &object, error))?;
        let real = |(position, mut table): (usize, Map<String, Value>)| {
            let address = settings::take_field(&mut table, "address", None)
                .map_err(|error| Fault::new(format!("{path}.real[{position}]"), &object, error))?;
            Ok(RealConfig {
                address,
                spec: table,
            })
        };
        let reals = reals.into_iter().enumerate().map(real);
        Ok(VipConfig {
            address,
            reals: reals.collect::<Result<_, Fault>>()?,
            spec: table,
        })
    }

    /// Whether its packets go to another VIP's reals while its own are down.
    fn has_fallback(&self) -> bool {
        let when = self.spec.get("when_empty").map(WhenEmpty::from_json);
        matches!(when, Some(Ok(WhenEmpty::Fallback(_))))
    }

    /// The change that names the VIP whose reals stand in, if one does.
    fn fallback(&self) -> Option<Change> {
        let fallback = self.spec.get_key_value("when_empty")?;
        self.has_fallback().then(|| Change::UpdateVip {
            vip: self.address,
            patch: [(fallback.0.clone(), fallback.1.clone())]
                .into_iter()
                .collect(),
        })
    }

    /// The changes that add this VIP with its reals, without its fallback.
    fn changes(&self, position: usize) -> Vec<(String, Change)> {
        let vip = self.address;
        let path = format!("vip[{position}]");
        let mut patch = self.spec.clone();
        if self.has_fallback() {
            patch.remove("when_empty");
        }
        let real = |(position, real): (usize, &RealConfig)| {
            let change = Change::AddReal {
                vip,
                real: real.address,
                patch: real.spec.clone(),
            };
            (format!("{path}.real[{position}]"), change)
        };
        let reals = self.reals.iter().enumerate().map(real);
        std::iter::once((path.clone(), Change::AddVip { vip, patch }))
            .chain(reals)
            .collect()
    }
}

#[cfg(test)]
mod tests;
