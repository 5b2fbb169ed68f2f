//! What `lbctl -o json why` prints, as far as it is shown, and what of it makes the picture of a broker.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::episode::Seen;

/// What a broker counts it tells every second or two; what is older than this, in seconds, was true once.
const FRESH: f64 = 4.0;

/// A real of a VIP, and why it is as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Why {
    /// The VIP's name.
    pub vip: String,
    /// The real.
    pub real: Real,
    /// Seconds that it is in its state.
    pub since: Option<f64>,
    /// What was last asked of it.
    pub probe: Option<Probe>,
    /// What was last read of its load.
    pub readings: Vec<Reading>,
    /// A fraction of its own limit.
    pub utilisation: Option<f64>,
    /// The share of new flows that steering would give it without limits, 0 to 1.
    pub wanted_share: Option<f64>,
    /// What keeps its weight from being more.
    pub limit: String,
}

/// A real as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Real {
    /// Its address.
    pub address: String,
    /// active, draining, held, unreachable or down.
    pub state: String,
    /// Share of the ring, 0 to 1.
    pub share: f64,
}

/// What a source tells.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Reading {
    /// What is measured; empty for a source that told nothing.
    pub quantity: String,
    /// In the quantity's unit.
    pub value: Option<f64>,
    /// Seconds since it was true.
    pub age: Option<f64>,
    /// Which source.
    pub source: String,
    /// Why it is not used; empty if it is.
    pub problem: String,
}

impl Why {
    /// The clients that the broker says it has.
    pub fn clients(&self) -> Option<f64> {
        self.readings
            .iter()
            .find(|reading| reading.quantity == "connections" && reading.source == "mosquitto")
            .filter(|reading| reading.problem.is_empty())
            .filter(|reading| reading.age.is_some_and(|age| age <= FRESH))?
            .value
    }
}

/// The answer to a probe.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Probe {
    /// In words.
    pub reason: String,
}

/// A broker as its reals are, one in each VIP. `at`: the time at which this was asked.
pub fn seen(at: Duration, reals: &[&Why]) -> Seen {
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
    Seen {
        at,
        out: since("down"),
        up: since("active"),
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
                reason: format!("it is {state}"),
            }),
            ..Why::default()
        }
    }

    #[test]
    fn a_broker_is_out_when_the_last_vip_has_found_it() {
        let at = Duration::from_secs(20);
        let (down, later) = (why("down", 3.0, 0.0), why("down", 2.5, 0.0));
        let seen_of = |reals: &[&Why]| seen(at, reals);
        let both = seen_of(&[&down, &later]);
        assert_eq!(both.out, Some(Duration::from_millis(17_500)));
        assert_eq!((both.up, both.share), (None, 0.0));
        assert_eq!(both.reason, "it is down");

        let up = why("active", 100.0, 0.3);
        let one = seen_of(&[&down, &up]);
        assert_eq!((one.out, one.up), (None, None));
        assert!((one.share - 0.15).abs() < 1e-9);
        // It is alive for longer than the clients run.
        assert_eq!(seen_of(&[&up, &up]).up, Some(Duration::ZERO));
        assert_eq!(seen_of(&[]).up, None);
    }

    #[test]
    fn it_is_read_as_lbctl_prints_it() {
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
