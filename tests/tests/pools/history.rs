//! The history of load of a real pool.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{client, wait_for};
use serde_json::Value;

use crate::fixture::{Controller, PATIENCE, port};

/// Requests that are reported in each report.
const REQUESTS: f64 = 50.0;

fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    client::exchange(address, method, path, body, PATIENCE)
}

fn history(controller: &Controller, words: &[&str]) -> anyhow::Result<Vec<Value>> {
    let text = controller.lbctl("history", &[words, &["-o", "json"]].concat())?;
    let value: Value = serde_json::from_str(&text)?;
    Ok(value["points"].as_array().cloned().unwrap_or_default())
}

pub fn what_a_pool_carried_is_kept_and_survives_a_kill() -> anyhow::Result<()> {
    let http: SocketAddr = format!("127.0.0.1:{}", port()).parse()?;
    let mut controller = Controller::start("history", &["--http", &http.to_string()])?;
    controller.add_web("web", port(), &["scaling.min=2", "scaling.max=2"])?;
    controller.wait_serving("web", 2)?;
    // Proxies report what they have counted.
    let report = format!("{{\"requests\": {REQUESTS}, \"latency\": 0.02}}");
    let wait_points = |controller: &Controller, count: usize| {
        wait_for("points of the history", PATIENCE, || {
            let reported = ask(http, "POST", "/v1/pools/web/demand", &report)?;
            ensure!(reported.0 == 204, "{reported:?}");
            std::thread::sleep(Duration::from_millis(200));
            let points = history(controller, &["web"])?;
            let is_known =
                |point: &&Value| point["serving"] == 2.0 && point["rate"].as_f64() > Some(0.0);
            let known = points.iter().filter(is_known).count();
            Ok((known >= count).then_some(points))
        })
        .with_context(|| controller.output())
    };
    let before = wait_points(&controller, 2)?;
    let known = before.iter().rev().find(|point| point["serving"] == 2.0);
    let known = known.context("no point")?;
    ensure!(
        known["rate_max"].as_f64() >= known["rate"].as_f64(),
        "{known}"
    );
    // Figures are kept with a precision of a tenth of a percent.
    let latency = known["latency"].as_f64().unwrap_or_default();
    ensure!((latency - 0.02).abs() < 0.02 / 1_000.0, "{known}");
    ensure!(
        known["time"].as_u64().is_some_and(|time| time % 10 == 0),
        "{known}"
    );
    controller.kill()?;
    controller.run()?;
    let after = history(&controller, &["web"])?;
    // The last step before the kill may be one that was not written.
    for point in &before {
        ensure!(after.contains(point), "{point} is lost");
    }
    controller.wait_serving("web", 2)?;
    wait_points(&controller, before.len() + 1)?;
    // An instance by its place, and in other forms.
    let instance = history(&controller, &["web-1"])?;
    ensure!(
        instance.iter().any(|point| point["serving"] == 1.0),
        "{instance:?}"
    );
    let csv = controller.lbctl("history", &["web", "--csv"])?;
    ensure!(csv.starts_with("time,rate,rate_max,"), "{csv}");
    let (status, text) = ask(http, "GET", "/v1/history/web?format=csv", "")?;
    ensure!(status == 200 && text.starts_with("time,rate,"), "{text}");
    let picture = controller.lbctl("history", &["web", "--plot", "-"])?;
    ensure!(picture.starts_with("<svg") && picture.contains("instances that serve"));
    let table = controller.lbctl("history", &["web"])?;
    ensure!(table.contains("SERVING"), "{table}");
    for (words, advice) in [
        (&["none"][..], "there is no pool and no instance none"),
        (&["shop/web"], "there is no project shop"),
        (&["web", "--step", "7s"], "multiple of 10"),
        (&["web", "--from", "2d", "--step", "10s"], "multiple of 600"),
        (&["web", "--from", "5s", "--to", "1h"], "before"),
    ] {
        let error = controller.lbctl("history", words).unwrap_err().to_string();
        ensure!(error.contains(advice), "{words:?}: {error}");
    }
    let (status, text) = ask(http, "GET", "/v1/history/web?from=x", "")?;
    ensure!(status == 422, "{text}");
    // It has its size.
    let folder = controller.state().join("history");
    let files = std::fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(files.len() == 3, "{files:?}");
    for file in files {
        ensure!(file.metadata()?.len() <= 590_464, "{file:?}");
    }
    Ok(())
}
