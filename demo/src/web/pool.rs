//! The parts of the output of `lbctl -o json pool why` and `lbctl -o json http stats` that the screen shows.

use serde::{Deserialize, Serialize};

/// A pool, its last decision, and what happened last.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Explanation {
    /// The pool.
    pub pool: Pool,
    /// The last decision of the scaling law.
    pub decision: Option<Decision>,
    /// The newest last.
    pub events: Vec<Event>,
}

/// A pool.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Pool {
    /// Instances that are to serve.
    pub desired: Option<u32>,
    /// By number.
    pub instances: Vec<Instance>,
    /// What is wrong.
    pub troubles: Vec<String>,
}

/// An instance.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Instance {
    /// POOL-NUMBER-EPOCH.
    pub name: String,
    /// Its place in the pool.
    pub number: u32,
    /// ADDRESS:PORT.
    pub endpoint: String,
    /// INIT, LU, MU, HU, SUNDOWN, SPARE or FAILED.
    pub state: String,
    /// Why it is as it is.
    pub reason: String,
    /// What is being done with it.
    pub doing: String,
    /// Not set before it serves.
    pub score: Option<Score>,
}

/// Scores of an instance, 0 to 1.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Score {
    /// Use of its CPU limit.
    pub cpu: Option<f64>,
    /// Use of its memory limit.
    pub memory: Option<f64>,
    /// How many of its probes succeed in time.
    pub availability: f64,
    /// What decides about its category.
    pub overall: f64,
}

/// A decision of the scaling law.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Decision {
    /// In a sentence.
    pub text: String,
    /// What the policies asked for.
    pub asks: Vec<Ask>,
    /// What kept the pool from growing or shrinking.
    pub limits: Vec<String>,
    /// What an operator must know at once.
    pub alarm: String,
}

/// What a policy asked for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Ask {
    /// The policy.
    pub policy: String,
    /// The need in instances now.
    pub need: Option<f64>,
    /// The highest need of the window.
    pub highest: Option<f64>,
    /// Why it has no say.
    pub missing: String,
}

/// Something that happened.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Event {
    /// Its number.
    pub revision: u64,
    /// Empty if it is about the whole pool.
    pub instance: String,
    /// A word for programs.
    pub kind: String,
    /// In a sentence.
    pub text: String,
    /// Whether an operator must know it at once.
    pub alarm: bool,
}

/// What a proxy knows of a service.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Service {
    /// Instances that requests may go to.
    pub eligible: usize,
    /// Its instances.
    pub instances: Vec<Member>,
}

/// What a proxy knows of an instance.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Member {
    /// ADDRESS:PORT.
    pub address: String,
    /// Whether the proxy itself leaves it out.
    pub ejected: bool,
    /// Requests under way.
    pub pending: u64,
    /// Mean response time in seconds.
    pub latency: Option<f64>,
    /// Requests a second, in the last 10 s.
    pub rate: f64,
}

impl Instance {
    /// Whether it gets requests.
    pub fn serves(&self) -> bool {
        matches!(self.state.as_str(), "LU" | "MU" | "HU")
    }
}

impl Pool {
    /// The instances that get requests, by number.
    pub fn serving(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.serves())
    }
}

/// Returns the number in a name such as `web-2-7`.
pub fn number(name: &str) -> Option<u32> {
    name.rsplit('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_lbctl_is_read() {
        let text = r#"{"pool":{"name":"web","settings":{},"generation":1,"owner":"api","deleting":false,"desired":2,
            "instances":[{"name":"web-1-4","number":1,"endpoint":"10.10.60.11:80","state":"LU","phase":"running",
            "role":"serving","reason":"scaled out","doing":"","current":true,"score":{"cpu":0.1,"availability":1.0,
            "overall":0.1}},{"name":"web-2-2","number":2,"endpoint":"10.10.60.12:80","state":"INIT",
            "phase":"running","role":"serving","reason":"","doing":"starting","current":true}],"troubles":[]},
            "decision":{"text":"2 instances stay","desired":2,"active":1,"starting":1,"draining":0,"dead":0,"spare":0,
            "floor":2,"critical":[],"asks":[{"policy":"requests","instances":2,"need":1.5,"highest":1.6,
            "missing":""}],"decided_by":"requests","limits":[],"alarm":""},
            "events":[{"revision":7,"time":"","pool":"web","instance":"web-1-4","kind":"relaunched",
            "text":"web-1-1: it has ended","alarm":false}]}"#;
        let read: Explanation = serde_json::from_str(text).unwrap();
        assert_eq!(read.pool.serving().count(), 1);
        assert_eq!(read.decision.unwrap().asks[0].need, Some(1.5));
        assert_eq!(number(&read.events[0].instance), Some(1));
        assert_eq!(number("web"), None);
    }
}
