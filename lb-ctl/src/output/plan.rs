//! Changes that were made or would be, of `reload`, `diff` and `apply --dry-run`.

use lb_model::{
    intent::{RealSpec, VipSpec},
    settings::{Field, Map, Settings as _, Value, plain},
};
use lb_proto::{settings::struct_to_map, v1};
use serde::Serialize;

use super::{Human, table};
use crate::{
    components,
    failure::{Failure, code_name},
    names,
};

/// Changes.
#[derive(Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// In their order.
    pub changes: Vec<Change>,
    /// Objects that stay as they are, since they belong to another owner.
    pub left: Vec<Left>,
    /// VIPs some of whose new flows would go elsewhere.
    pub moves: Vec<Move>,
    /// Settings of the agent that count when it starts again.
    pub at_next_start: Vec<String>,
    /// Settings of the agent that do not count, since its command line does.
    pub overridden: Vec<String>,
}

/// A change.
#[derive(Debug, PartialEq, Serialize)]
pub struct Change {
    /// add_vip, update_vip, delete_vip, add_real, update_real or delete_real.
    pub kind: String,
    /// The VIP.
    pub vip: String,
    /// The real; `null` for a change of the VIP itself.
    pub real: Option<String>,
    /// Settings that change.
    pub settings: Vec<Setting>,
    /// Why it is refused; `null` if it is not.
    pub error: Option<String>,
    /// Code of google.rpc.Code, as in NOT_FOUND; OK if it is not refused.
    pub code: &'static str,
}

/// A setting that changes.
#[derive(Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value before; `null` if it was not set, or the object is new.
    pub before: Value,
    /// Its value afterwards; `null` if it is reset.
    pub after: Value,
}

/// An object that stays as it is.
#[derive(Debug, PartialEq, Serialize)]
pub struct Left {
    /// The VIP.
    pub vip: String,
    /// The real; `null` for the VIP itself.
    pub real: Option<String>,
    /// To whom it belongs.
    pub owner: String,
}

/// New flows that would go elsewhere.
#[derive(Debug, PartialEq, Serialize)]
pub struct Move {
    /// The VIP.
    pub vip: String,
    /// Share of its new flows, 0 to 1.
    pub moved: f64,
}

impl Plan {
    /// Converts the agent's answer.
    pub fn of(plan: &v1::ChangePlan, dry_run: bool) -> Self {
        let real = |real: &String| Some(real.clone()).filter(|real| !real.is_empty());
        let change = |change: &v1::PlannedChange| Change {
            kind: change.kind.clone(),
            vip: names::vip(change.vip.as_ref()),
            real: real(&change.real),
            settings: settings(change),
            error: Some(change.error.clone()).filter(|error| !error.is_empty()),
            code: code_name(change.code),
        };
        let left = |left: &v1::LeftObject| Left {
            vip: names::vip(left.vip.as_ref()),
            real: real(&left.real),
            owner: left.owner.clone(),
        };
        let moved = |entry: &v1::PlannedMove| Move {
            vip: names::vip(entry.vip.as_ref()),
            moved: entry.moved,
        };
        Plan {
            dry_run,
            changes: plan.changes.iter().map(change).collect(),
            left: plan.left.iter().map(left).collect(),
            moves: plan.moves.iter().map(moved).collect(),
            at_next_start: plan.at_next_start.clone(),
            overridden: plan.overridden.clone(),
        }
    }

    /// Fails if a change is refused.
    ///
    /// # Errors
    /// [`Failure::Lines`], or [`Failure::NotYet`] in a dry run.
    pub fn refused(&self) -> Result<(), Failure> {
        let refused = self.changes.iter().filter(|change| change.error.is_some());
        match refused.count() {
            0 => Ok(()),
            refused if self.dry_run => Err(Failure::NotYet(format!(
                "{refused} of {} would be refused",
                table::count(self.changes.len(), "change")
            ))),
            refused => Err(Failure::Lines {
                refused,
                commands: self.changes.len(),
            }),
        }
    }
}

/// The settings of a change, in the order of their definition.
fn settings(change: &v1::PlannedChange) -> Vec<Setting> {
    let fields = if change.real.is_empty() {
        VipSpec::fields()
    } else {
        RealSpec::fields()
    };
    let map =
        |table: &Option<prost_types::Struct>| struct_to_map(table.clone().unwrap_or_default());
    let (before, after) = (map(&change.before), map(&change.settings));
    let value = |field: &Field, map: &Map<String, Value>| match map.get(field.name) {
        None | Some(Value::Null) => Value::Null,
        Some(value) => components::write(field, value),
    };
    let changed = fields.iter().filter(|field| after.contains_key(field.name));
    changed
        .map(|field| Setting {
            name: field.name.to_owned(),
            before: value(field, &before),
            after: value(field, &after),
        })
        .collect()
}

impl Human for Plan {
    fn human(&self) -> String {
        let mut text: String = self.changes.iter().map(Change::human).collect();
        for entry in &self.moves {
            text += &format!(
                "VIP {}: {} of its new flows would go to another real\n",
                entry.vip,
                table::percent(entry.moved),
            );
        }
        for left in &self.left {
            let real = left.real.as_ref();
            let real = real
                .map(|real| format!(", real {real}"))
                .unwrap_or_default();
            text += &format!(
                "! VIP {}{real} belongs to {}: left as it is (--force takes it over)\n",
                left.vip, left.owner
            );
        }
        if !self.at_next_start.is_empty() {
            let names = self.at_next_start.join(", ");
            text += &format!("! {names}: when the agent starts again\n");
        }
        if !self.overridden.is_empty() {
            let names = self.overridden.join(", ");
            text += &format!("! {names}: no effect, the agent's command line counts\n");
        }
        let count = table::count(self.changes.len(), "change");
        text += &match (self.changes.is_empty(), self.dry_run) {
            (true, _) => "nothing to change\n".to_owned(),
            (false, true) => format!("{count}, none made\n"),
            (false, false) => format!("{count}\n"),
        };
        text
    }
}

impl Change {
    fn human(&self) -> String {
        let sign = match self.kind.split('_').next() {
            Some("add") => '+',
            Some("delete") => '-',
            _ => '~',
        };
        let mut text = format!("{sign} VIP {}", self.vip);
        if let Some(real) = &self.real {
            text += &format!(", real {real}");
        }
        let show = |value: &Value| match value {
            Value::Null => "default".to_owned(),
            value => plain(value),
        };
        let setting = |setting: &Setting| {
            let name = setting.name.replace('_', "-");
            let after = show(&setting.after);
            if sign == '~' {
                format!("{name} {} → {after}", show(&setting.before))
            } else {
                format!("{name} {after}")
            }
        };
        let settings: Vec<String> = self.settings.iter().map(setting).collect();
        if !settings.is_empty() {
            text += &format!(": {}", settings.join(", "));
        }
        if let Some(error) = &self.error {
            text += &format!("\n  refused: {error}");
        }
        text + "\n"
    }
}
