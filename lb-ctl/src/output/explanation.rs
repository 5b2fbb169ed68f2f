//! Explanations of reals, for `why` and `list -o wide`.

use lb_proto::v1;
use serde::Serialize;

use super::{
    Human,
    readings::{Reading, age},
    table,
    vip::{Real, Vip},
};
use crate::names;

/// The result of the last probe.
#[derive(Debug, PartialEq, Serialize)]
pub struct Probe {
    /// healthy, drain or unhealthy.
    pub verdict: String,
    /// The reason in words.
    pub reason: String,
    /// Seconds since the probe.
    pub age: Option<f64>,
    /// Seconds that the probe took.
    pub latency: Option<f64>,
}

/// A real with the explanation of its state and weight.
#[derive(Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The VIP's name.
    pub vip: String,
    /// The real.
    pub real: Option<Real>,
    /// Seconds that the real has been in its state, as far as the agent knows.
    pub since: Option<f64>,
    /// Result of its last probe.
    pub probe: Option<Probe>,
    /// Its last load readings.
    pub readings: Vec<Reading>,
    /// Utilisation as steering uses it: a fraction of the real's own limit.
    pub utilisation: Option<f64>,
    /// Estimated capacity: what it would carry at utilisation 1.
    pub capacity: Option<f64>,
    /// Share of new flows that steering wants for it.
    pub wanted_share: Option<f64>,
    /// Why its weight is not higher.
    pub limit: String,
    /// How far steering trusts its utilisation, 0 to 1.
    pub trust: Option<f64>,
    /// Why it is not trusted in full.
    pub doubt: String,
}

impl From<&v1::Explanation> for Explanation {
    fn from(real: &v1::Explanation) -> Self {
        let probe = |probe: &v1::ProbeResult| Probe {
            verdict: probe.verdict.clone(),
            reason: probe.reason.clone(),
            age: probe.time.and_then(age),
            latency: probe
                .latency
                .and_then(|latency| std::time::Duration::try_from(latency).ok())
                .map(|latency| latency.as_secs_f64()),
        };
        Explanation {
            vip: names::vip(real.vip.as_ref()),
            real: real.real.as_ref().map(Real::from),
            since: real.since.and_then(age),
            probe: real.probe.as_ref().map(probe),
            readings: real.readings.iter().map(Reading::from).collect(),
            utilisation: real.utilisation,
            capacity: real.capacity,
            wanted_share: real.wanted_share,
            limit: real.limit.clone(),
            trust: real.trust,
            doubt: real.doubt.clone(),
        }
    }
}

impl Human for Explanation {
    fn human(&self) -> String {
        let mut text = format!("VIP {}\n", self.vip);
        let mut line = |name: &str, value: String| {
            text.push_str(&format!("  {name:<12} {value}\n"));
        };
        if let Some(real) = &self.real {
            line("real", real.address.clone());
            let since = self
                .since
                .map_or_else(String::new, |since| format!(" for {}", table::span(since)));
            line("state", format!("{}{since}", real.state));
            line(
                "weight",
                format!(
                    "{} wanted by the operator, {} effective, {} of the ring",
                    real.weight,
                    real.effective_weight,
                    table::percent(real.share)
                ),
            );
            line("flows", table::flows(real.flows, real.flows_exact));
            for (name, value) in real.settings.differences() {
                line(name, format!("here {value}"));
            }
        }
        if let Some(probe) = &self.probe {
            let seconds = |value: Option<f64>| value.unwrap_or_default();
            line(
                "probe",
                format!(
                    "{}: {} ({:.1} s ago, took {:.1} ms)",
                    probe.verdict,
                    probe.reason,
                    seconds(probe.age),
                    seconds(probe.latency) * 1_000.0
                ),
            );
        }
        if let Some(utilisation) = self.utilisation {
            line("utilisation", table::percent(utilisation));
        }
        // Utilisation that is trusted in full is the rule.
        if let Some(trust) = self.trust
            && (trust < 1.0 || !self.doubt.is_empty())
        {
            let doubt = match self.doubt.as_str() {
                "" => String::new(),
                doubt => format!(": {doubt}"),
            };
            line("trust", format!("{}{doubt}", table::percent(trust)));
        }
        if let Some(capacity) = self.capacity {
            line("capacity", format!("{capacity:.1}"));
        }
        if let Some(wanted) = self.wanted_share {
            line("wanted", format!("{} of new flows", table::percent(wanted)));
        }
        if !self.limit.is_empty() {
            line("limit", self.limit.clone());
        }
        for reading in &self.readings {
            let problem = if reading.problem.is_empty() {
                String::new()
            } else {
                format!("  {}", reading.problem)
            };
            line(
                "reading",
                format!(
                    "{} {} from {}, {} old{problem}",
                    reading.quantity,
                    reading.value(),
                    reading.source,
                    reading.age()
                ),
            );
        }
        text
    }
}

/// What `why` prints.
#[derive(Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Explanations(pub Vec<Explanation>);

impl From<&v1::ExplainResponse> for Explanations {
    fn from(answer: &v1::ExplainResponse) -> Self {
        Explanations(answer.reals.iter().map(Explanation::from).collect())
    }
}

impl Human for Explanations {
    fn human(&self) -> String {
        self.0
            .iter()
            .map(Human::human)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What `list -o wide` prints: a line for each real, then the settings of each VIP.
#[derive(Debug, Serialize)]
pub struct Wide {
    /// The reals.
    pub reals: Explanations,
    /// Their VIPs.
    pub vips: Vec<Vip>,
}

impl Human for Wide {
    fn human(&self) -> String {
        let dash = || "-".to_owned();
        let reals = self.reals.0.iter().map(|why| {
            let real = why.real.as_ref();
            vec![
                why.vip.clone(),
                real.map_or_else(dash, |real| real.address.clone()),
                real.map_or_else(dash, |real| real.state.to_owned()),
                why.since.map_or_else(dash, table::span),
                real.map_or_else(dash, |real| real.weight.to_string()),
                real.map_or_else(dash, |real| real.effective_weight.to_string()),
                real.map_or_else(dash, |real| table::percent(real.share)),
                real.map_or_else(dash, |real| table::flows(real.flows, real.flows_exact)),
                why.utilisation.map_or_else(dash, table::percent),
                why.capacity
                    .map_or_else(dash, |capacity| format!("{capacity:.1}")),
                why.probe
                    .as_ref()
                    .map_or_else(dash, |probe| probe.reason.clone()),
                why.limit.clone(),
            ]
        });
        let without = self.vips.iter().filter(|vip| vip.reals.is_empty());
        let without = without.map(|vip| {
            let mut row = vec!["-".to_owned(); COLUMNS.len()];
            row[0].clone_from(&vip.vip);
            row
        });
        let mut text = table::layout(&COLUMNS, reals.chain(without));
        for vip in &self.vips {
            text.push('\n');
            text.push_str(&vip.details());
        }
        text
    }
}

/// Columns of `list -o wide`.
const COLUMNS: [table::Column; 12] = [
    ("VIP", false),
    ("REAL", false),
    ("STATE", false),
    ("FOR", true),
    ("WEIGHT", true),
    ("EFFECTIVE", true),
    ("SHARE", true),
    ("FLOWS", true),
    ("LOAD", true),
    ("CAPACITY", true),
    ("PROBE", false),
    ("LIMIT", false),
];
