//! A pool behind `lb-proxy`, which reports what it has counted.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::{
    binary,
    client::{Connections, HttpPlan, get, http_load},
    wait_for,
};

use crate::fixture::{Controller, PATIENCE, current, is_serving, port, request, text};

/// Requests that an instance is meant to answer in 10 s.
const REQUESTS: u32 = 1_500;

pub fn a_pool_scales_by_the_requests_of_its_proxy_and_none_fails() -> anyhow::Result<()> {
    let namespace = &current()?;
    let [api, front] = [port(), port()].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let controller = Controller::start("proxied", &["--http", &api.to_string()])?;
    let requests = format!("scaling.requests={REQUESTS}");
    controller.add_web(
        "web",
        port(),
        &[
            "scaling.min=2",
            "scaling.max=6",
            &requests,
            "scaling.requests_over=10s",
            "scaling.load_over=5s",
            "scaling.surge_over=2s",
            "scaling.period=1s",
            "scaling.in_after=10s",
            "scaling.in_every=1s",
            "scaling.drain_natural=5s",
            "scaling.start_up=1s",
            "scaling.policies=['requests']",
            "scaling.relaunch_first=100ms",
        ],
    )?;
    controller.wait_serving("web", 2)?;
    let file = controller.folder().join("proxy.toml");
    fs::write(
        &file,
        format!(
            "[[listener]]\naddress = \"{front}\"\n[[route]]\nservice = \"web\"\n[[service]]\nname = \"web\"\n\
             choice = \"round-robin\"\npool = \"ws://{api}/v1/pools/web/stream\"\n"
        ),
    )?;
    let file = file.display().to_string();
    let mut proxy = namespace.start("lb-proxy", binary("lb-proxy")?, ["run", "--config", &file])?;
    proxy.wait_line("lb-proxy:", "ready", PATIENCE)?;
    wait_for(
        "an answer",
        PATIENCE,
        || Ok(get(namespace, front, "/").ok()),
    )?;
    let plan = |workers, pause| HttpPlan {
        target: front,
        workers,
        connections: Connections::Kept,
        pause: Duration::from_millis(pause),
        requests: None,
    };
    let serving = || -> anyhow::Result<usize> {
        let instances = controller.instances("web")?;
        Ok(instances.iter().filter(|one| is_serving(one)).count())
    };
    // About 1,000 requests a second, which is more than six instances are meant to answer.
    let heavy = http_load(namespace, plan(10, 10));
    wait_for("the pool to grow", PATIENCE, || {
        let serving = serving()?;
        ensure!(serving >= 4, "{serving} serve");
        Ok(Some(()))
    })
    .with_context(|| controller.output())?;
    // Meanwhile one is crashed, and relaunched.
    let victim = controller.instances("web")?[0].clone();
    let report = heavy.stop()?;
    println!(
        "heavy: {} requests, {} failed",
        report.requests, report.failed
    );
    ensure!(report.failed == 0, "{:?}", report.errors);
    let light = http_load(namespace, plan(1, 20));
    request(&text(&victim["endpoint"]), "POST /api/v1/_crash")?;
    wait_for("the pool to shrink", PATIENCE * 2, || {
        let instances = controller.instances("web")?;
        ensure!(instances.len() == 2, "{instances:?}");
        ensure!(instances.iter().all(is_serving), "{instances:?}");
        Ok(Some(()))
    })?;
    let report = light.stop()?;
    println!(
        "light: {} requests, {} failed",
        report.requests, report.failed
    );
    let instances = controller.instances("web")?;
    ensure!(
        instances.iter().all(|one| one["name"] != victim["name"]),
        "{instances:?}"
    );
    proxy.stop()
}
