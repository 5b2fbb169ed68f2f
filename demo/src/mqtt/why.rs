//! The parts of the output of `lbctl -o json why` that the screen shows, and the snapshot of a broker made of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault_window::BrokerSnapshot;

/// Greatest age, in seconds, of a broker's own count of its clients. Brokers publish it every second or two.
const FRESH: f64 = 4.0;

/// A real of a VIP, and what its weight follows from.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Why {
    /// The VIP.
    pub vip: String,
    /// The real.
    pub real: Real,
    /// Seconds since the real is in its state.
    pub since: Option<f64>,
    /// The last probe.
    pub probe: Option<Probe>,
    /// The last readings of its load.
    pub readings: Vec<Reading>,
    /// Use of its own limit, 0 to 1.
    pub utilisation: Option<f64>,
    /// The share of new flows that steering would give it without limits, 0 to 1.
    pub wanted_share: Option<f64>,
    /// What keeps its weight from growing.
    pub limit: String,
}

/// State of a real.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Real {
    /// The address.
    pub address: String,
    /// active, draining, held, unreachable or down.
    pub state: String,
    /// Share of the ring, 0 to 1.
    pub share: f64,
}

/// A value from a source of load.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reading {
    /// What is measured; empty if the source has not answered.
    pub quantity: String,
    /// The value, in the quantity's unit.
    pub value: Option<f64>,
    /// Seconds since it was measured.
    pub age: Option<f64>,
    /// The kind of the source.
    pub source: String,
    /// Why the value is not used; empty if it is.
    pub problem: String,
}

impl Why {
    /// Returns how many clients the broker itself counts.
    pub fn clients(&self) -> Option<f64> {
        self.readings
            .iter()
            .find(|reading| reading.quantity == "connections" && reading.source == "mosquitto")
            .filter(|reading| reading.problem.is_empty())
            .filter(|reading| reading.age.is_some_and(|age| age <= FRESH))?
            .value
    }
}

/// The result of a probe.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Probe {
    /// healthy, unhealthy, …
    pub verdict: String,
    /// The result in words.
    pub reason: String,
}

/// Makes the snapshot of a broker out of its reals, one per VIP. `at` is when the agent was asked.
pub fn snapshot(at: Duration, reals: &[&Why]) -> BrokerSnapshot {
    let since = |state: &str| -> Option<Duration> {
        if reals.is_empty() || reals.iter().any(|why| why.real.state != state) {
            return None;
        }
        reals
            .iter()
            .map(|why| {
                let age = Duration::try_from_secs_f64(why.since.unwrap_or_default());
                at.saturating_sub(age.unwrap_or_default())
            })
            .max()
    };
    let shares: f64 = reals.iter().map(|why| why.real.share).sum();
    BrokerSnapshot {
        at,
        down_since: since("down"),
        active_since: since("active"),
        share: shares / reals.len().max(1) as f64,
        reason: reals
            .iter()
            .find_map(|why| why.probe.as_ref())
            .map_or(String::new(), |probe| probe.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(state: &str, since: f64, share: f64) -> Why {
        Why {
            real: Real {
                state: state.to_owned(),
                share,
                ..Real::default()
            },
            since: Some(since),
            probe: Some(Probe {
                verdict: String::new(),
                reason: format!("it is {state}"),
            }),
            ..Why::default()
        }
    }

    #[test]
    fn a_broker_is_down_once_it_is_down_for_the_last_vip() {
        let at = Duration::from_secs(20);
        let (down, later) = (why("down", 3.0, 0.0), why("down", 2.5, 0.0));
        let snapshot_of = |reals: &[&Why]| snapshot(at, reals);
        let both = snapshot_of(&[&down, &later]);
        assert_eq!(both.down_since, Some(Duration::from_millis(17_500)));
        assert_eq!((both.active_since, both.share), (None, 0.0));
        assert_eq!(both.reason, "it is down");

        let up = why("active", 100.0, 0.3);
        let one = snapshot_of(&[&down, &up]);
        assert_eq!((one.down_since, one.active_since), (None, None));
        assert!((one.share - 0.15).abs() < 1e-9);
        // It has been active for longer than the clients run.
        assert_eq!(snapshot_of(&[&up, &up]).active_since, Some(Duration::ZERO));
        assert_eq!(snapshot_of(&[]).active_since, None);
    }

    #[test]
    fn the_output_of_lbctl_is_read() {
        let text = r#"[{"vip":"192.0.2.20:1883/tcp","real":{"address":"10.10.30.4","weight":100,
            "effective_weight":120,"state":"active","drained":false,"share":0.25,"flows":7,
            "flows_exact":true},"since":1.5,"probe":{"verdict":"healthy","reason":"accepted","age":0.1,
            "latency":0.01},
            "readings":[{"quantity":"connections","value":7.0,"unit":"count","age":0.5,
            "source":"mosquitto","problem":""},{"quantity":"connections","value":12.0,"unit":"count",
            "age":0.1,"source":"grpc","problem":""}],"utilisation":0.4,"capacity":50.0,"wanted_share":0.26,
            "limit":"nothing"}]"#;
        let read: Vec<Why> = serde_json::from_str(text).unwrap();
        assert_eq!(read[0].real.state, "active");
        assert_eq!(read[0].wanted_share, Some(0.26));
        assert_eq!(read[0].clients(), Some(7.0));
        let mut old = read[0].clone();
        old.readings[0].age = Some(8.0);
        assert_eq!(old.clients(), None);
    }
}
