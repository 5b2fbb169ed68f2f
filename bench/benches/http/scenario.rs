//! What is asked of the proxies.

use crate::{
    load::{Load, Tool},
    proxies::Port,
};

/// A kind of load.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, as `--scenario` has it.
    pub name: &'static str,
    /// What is played.
    pub load: Load,
    /// Whether it is played at half the rate that HAProxy takes in the same run, for its response times.
    pub at_half_load: bool,
    /// The aim for requests per CPU second, as a multiple of HAProxy's.
    pub aim: Option<f64>,
}

impl Scenario {
    /// The same without a limit of its rate.
    pub fn full_load(&self) -> Load {
        Load {
            tool: Tool::Wrk,
            ..self.load.clone()
        }
    }
}

const KEEP_ALIVE: Load = Load {
    tool: Tool::Wrk,
    port: Port::Http,
    cached: false,
    connections: 64,
    streams: 1,
    close: false,
    rate: None,
};

/// All scenarios, in the order of their rows.
pub const SCENARIOS: [Scenario; 8] = [
    Scenario {
        name: "keep-alive",
        load: KEEP_ALIVE,
        at_half_load: false,
        aim: Some(1.0),
    },
    Scenario {
        name: "keep-alive-1000",
        load: Load {
            connections: 1_000,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: None,
    },
    Scenario {
        name: "connection",
        load: Load {
            connections: 32,
            close: true,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: Some(0.85),
    },
    Scenario {
        name: "tls-connection",
        load: Load {
            port: Port::Https,
            connections: 32,
            close: true,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: Some(1.6),
    },
    Scenario {
        name: "http2",
        load: Load {
            tool: Tool::H2load,
            port: Port::Https,
            connections: 16,
            streams: 10,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: Some(0.75),
    },
    Scenario {
        name: "cached",
        load: Load {
            cached: true,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: Some(0.9),
    },
    Scenario {
        name: "cached-http2",
        load: Load {
            tool: Tool::H2load,
            port: Port::Https,
            cached: true,
            connections: 16,
            streams: 10,
            ..KEEP_ALIVE
        },
        at_half_load: false,
        aim: None,
    },
    Scenario {
        name: "half-load",
        load: Load {
            tool: Tool::H2load,
            ..KEEP_ALIVE
        },
        at_half_load: true,
        aim: None,
    },
];
