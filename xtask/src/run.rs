//! `cargo xtask run`: a demonstration, or the agent on an interface of this host.

use std::{path::PathBuf, process::Command, time::Duration};

use crate::{
    command, host,
    programs::{self, Profile},
    setup,
};

/// Arguments of `cargo xtask run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What is shown: brokers behind VIPs (mqtt), or a pool of web servers that scales itself behind the HTTP tier (web).
    #[arg(long, default_value = "mqtt", value_parser = ["mqtt", "web"])]
    demo: String,

    /// End after this time, for example 20s or 2m; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,

    /// Write the final figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// What runs the instances of `--demo web`: Docker where it can be had, unless this names another.
    #[arg(long, value_parser = ["docker", "process"])]
    driver: Option<String>,

    /// Arguments of `lb-agent run`: the agent then runs on this host, without a demonstration.
    #[arg(last = true, value_name = "AGENT ARGUMENT", conflicts_with_all = ["demo", "time", "report", "driver"])]
    agent: Vec<String>,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    setup::ensure()?;
    if arguments.agent.is_empty() {
        demonstrate(arguments)
    } else {
        host::run(&arguments.agent)
    }
}

/// Builds the product and the demonstration, and replaces this process by the demonstration: signals reach it
/// directly, so that it removes its testbed.
fn demonstrate(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = programs::build(Profile::Release, &programs::DEMONSTRATION)?;
    let mut demonstration = Command::new(folder.join("lb-demo"));
    demonstration
        .env(programs::FOLDER, &folder)
        .args(["--demo", &arguments.demo]);
    if let Some(driver) = &arguments.driver {
        demonstration.args(["--driver", driver]);
    }
    if let Some(time) = arguments.time {
        demonstration
            .arg("--for")
            .arg(format!("{}ms", time.as_millis()));
    }
    if let Some(report) = &arguments.report {
        demonstration.arg("--report").arg(report);
    }
    command::replace_this_process(&mut demonstration)
}

fn duration(text: &str) -> Result<Duration, String> {
    lb_model::duration::parse(text)
        .map_err(|_| format!("`{text}` is not a duration such as 500ms, 20s, 2m or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "20", "-1s", "1.5s", "20 s", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
