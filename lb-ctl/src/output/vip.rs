//! VIPs and reals, of `list` and of the verbs that change them.

use lb_proto::v1;
use serde::Serialize;

use super::{Human, table};
use crate::{
    names,
    values::{check, duration, load_source, overrides, shed_by, steering},
};

/// A real as it is.
#[derive(Debug, PartialEq, Serialize)]
pub struct Real {
    /// Its address.
    pub address: String,
    /// As configured, 0 to 65535.
    pub weight: u32,
    /// What steering makes of the weight.
    pub effective_weight: u32,
    /// active, draining, held, unreachable or down.
    pub state: &'static str,
    /// Of the ring, 0 to 1.
    pub share: f64,
    /// Live flows.
    pub flows: u64,
    /// False where `flows` is an estimate.
    pub flows_exact: bool,
    /// Takes no new flows, whatever its weight.
    pub drained: bool,
    /// What is different in the VIP's check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
    /// What is different where load is read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub load: Vec<String>,
}

impl From<&v1::Real> for Real {
    fn from(real: &v1::Real) -> Self {
        let spec = real.spec.clone().unwrap_or_default();
        Real {
            address: real.address.clone(),
            weight: spec.weight(),
            effective_weight: real.effective_weight,
            state: names::state(real.state()),
            share: real.share,
            flows: real.flows,
            flows_exact: real.flows_exact,
            drained: spec.drained(),
            check: spec
                .check
                .as_ref()
                .map(overrides::write_check)
                .filter(|text| !text.is_empty()),
            load: spec.load.iter().map(overrides::write_load).collect(),
        }
    }
}

impl Human for Real {
    fn human(&self) -> String {
        let drained = if self.drained { ", drained" } else { "" };
        format!(
            "real {}: weight {}, effective {}, {}{drained}, {} of the ring\n",
            self.address,
            self.weight,
            self.effective_weight,
            self.state,
            table::percent(self.share)
        )
    }
}

/// A VIP as it is.
#[derive(Debug, PartialEq, Serialize)]
pub struct Vip {
    /// Its name, as in `10.0.0.1:80/tcp`.
    pub vip: String,
    /// ipip or l2.
    pub forward: &'static str,
    /// rendezvous or maglev.
    pub ring: &'static str,
    /// exceptions or all.
    pub track: &'static str,
    /// A duration, as in `1h`.
    pub window: String,
    /// As configured or as grown; absent if the agent does not say.
    pub slots: Option<u32>,
    /// What the reals are asked; none if nothing is.
    pub check: Option<String>,
    /// rehash, reset or keep.
    pub on_down: &'static str,
    /// drop, reset, or a VIP.
    pub when_empty: String,
    /// Where load is read.
    pub load: Vec<String>,
    /// How weights are made; none if by default.
    pub steering: Option<String>,
    /// Who sheds connections.
    pub shed: String,
    /// In the agent's order.
    pub reals: Vec<Real>,
}

impl From<&v1::Vip> for Vip {
    fn from(vip: &v1::Vip) -> Self {
        let spec = vip.spec.clone().unwrap_or_default();
        Vip {
            vip: names::vip(vip.id.as_ref()),
            forward: names::forward(spec.forward()),
            ring: names::ring(spec.ring()),
            track: names::track(spec.track()),
            window: duration::write(duration::from_proto(spec.window.unwrap_or_default())),
            slots: spec.slots,
            check: spec.check.as_ref().map(check::write),
            on_down: names::on_down(spec.on_down()),
            when_empty: spec.when_empty.clone().unwrap_or_default(),
            load: spec.load.iter().map(load_source::write).collect(),
            steering: spec.steering.as_ref().map(steering::write),
            shed: spec.shed.as_ref().map(shed_by::write).unwrap_or_default(),
            reals: vip.reals.iter().map(Real::from).collect(),
        }
    }
}

impl Human for Vip {
    fn human(&self) -> String {
        format!(
            "VIP {}: {}, {}, tracks {}, window {}, {}\n",
            self.vip,
            self.forward,
            self.ring,
            self.track,
            self.window,
            table::count(self.reals.len(), "real")
        )
    }
}

impl Vip {
    /// All that it is told to do, over several lines.
    pub fn settings(&self) -> String {
        let mut text = self.human();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("  {name:<10} {value}\n"));
        };
        if let Some(check) = &self.check {
            line("check", check);
        }
        line("on-down", self.on_down);
        line("when-empty", &self.when_empty);
        for load in &self.load {
            line("load", load);
        }
        if let Some(steering) = &self.steering {
            line("steering", steering);
        }
        line("shed", &self.shed);
        text
    }
}

/// What `list` prints.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Vips(pub Vec<Vip>);

impl Human for Vips {
    fn human(&self) -> String {
        if self.0.is_empty() {
            return "no VIP; `lbctl add-vip` adds one\n".to_owned();
        }
        let rows = self.0.iter().flat_map(|vip| {
            let head = [&vip.vip, vip.forward, vip.ring, vip.track, &vip.window].map(str::to_owned);
            let none = || vec![["-"; 5].map(str::to_owned).to_vec()];
            let reals: Vec<Vec<String>> = vip
                .reals
                .iter()
                .map(|real| {
                    let weight = if real.weight == real.effective_weight {
                        real.weight.to_string()
                    } else {
                        format!("{} ({})", real.weight, real.effective_weight)
                    };
                    vec![
                        real.address.clone(),
                        weight,
                        real.state.to_owned(),
                        table::percent(real.share),
                        table::flows(real.flows, real.flows_exact),
                    ]
                })
                .collect();
            let reals = if reals.is_empty() { none() } else { reals };
            reals.into_iter().map(move |real| {
                let mut row = head.to_vec();
                row.extend(real);
                row
            })
        });
        table::layout(
            &[
                ("VIP", false),
                ("FORWARD", false),
                ("RING", false),
                ("TRACK", false),
                ("WINDOW", false),
                ("REAL", false),
                ("WEIGHT", true),
                ("STATE", false),
                ("SHARE", true),
                ("FLOWS", true),
            ],
            rows,
        )
    }
}
