//! The controller's store in Redis.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use lb_tests::{server::Redis, wait_for};
use nix::sys::signal::Signal;

use crate::fixture::{Controller, PATIENCE, get, port};

pub fn everything_is_written_again_when_redis_restarts_empty() -> anyhow::Result<()> {
    let mut redis = Redis::start(&[])?;
    let url = format!("redis:{}", redis.url());
    let mut controller = Controller::start("redis", &["--store", &url])?;
    let port = port();
    controller.add_web("web", port, &["scaling.min=2", "scaling.max=4"])?;
    controller.wait_serving("web", 2)?;
    let key = format!("{{lb:{}}}:table:pools", controller.name);
    ensure!(redis.command(&["HLEN", &key])? == "1");
    // While it is away pools go on, and settings cannot be changed.
    redis.kill()?;
    let error = controller
        .pool(&["scale", "web", "3"])
        .unwrap_err()
        .to_string();
    ensure!(error.contains("nothing was changed"), "{error}");
    controller.wait_serving("web", 2)?;
    // It comes back with nothing.
    redis.run()?;
    wait_for("everything to be written again", PATIENCE, || {
        ensure!(redis.command(&["HLEN", &key])? == "1");
        Ok(Some(()))
    })?;
    controller.pool(&["scale", "web", "3"])?;
    controller.wait_serving("web", 3)?;
    let before = controller.running();
    controller.kill()?;
    controller.run()?;
    controller.wait_serving("web", 3)?;
    ensure!(
        controller.running() == before,
        "the same instances were adopted"
    );
    controller.check()
}

/// Kills an instance and waits until another one serves at its place, while the controller answers all the time. Returns what runs.
fn relaunch(controller: &Controller, http: SocketAddr) -> anyhow::Result<Vec<String>> {
    let before = controller.running();
    let first = before.first().context("no instance")?;
    controller.kill_instance(first);
    wait_for("the relaunch", PATIENCE, || {
        let metrics = get(http, "/metrics").context("the controller does not answer")?;
        ensure!(metrics.contains("lb_controller_store_up"), "{metrics}");
        let now = controller.running();
        Ok((now.len() == before.len() && !now.contains(first)).then_some(()))
    })
    .with_context(|| controller.output())?;
    controller.wait_serving("web", before.len())?;
    Ok(controller.running())
}

pub fn a_redis_that_hangs_holds_up_nothing() -> anyhow::Result<()> {
    let redis = Redis::start(&[])?;
    let url = format!("redis:{}", redis.url());
    let http: SocketAddr = format!("127.0.0.1:{}", port()).parse()?;
    let options = ["--store", &url, "--http", &http.to_string()];
    let mut controller = Controller::start("hanging", &options)?;
    let limits = [
        "scaling.min=2",
        "scaling.max=4",
        "scaling.relaunch_first=10ms",
    ];
    controller.add_web("web", port(), &limits)?;
    controller.wait_serving("web", 2)?;
    redis.signal(Signal::SIGSTOP)?;
    let running = relaunch(&controller, http)?;
    wait_for("the trouble", PATIENCE, || {
        let list = controller.pool(&["list", "web"])?;
        ensure!(list.contains("  ! ") && list.contains("redis"), "{list}");
        ensure!(get(http, "/metrics")?.contains("\nlb_controller_store_up 0\n"));
        Ok(Some(()))
    })?;
    let refused = controller.pool(&["set", "web", "scaling.max=9"]);
    let refused = refused.unwrap_err().to_string();
    ensure!(refused.contains("nothing was changed"), "{refused}");
    redis.signal(Signal::SIGCONT)?;
    // What it was asked for while it hung, it may do now: what counts is what the controller knows.
    let stored = |table: &str| {
        let key = format!("{{lb:{}}}:table:{table}", controller.name);
        redis.command(&["HGETALL", &key])
    };
    wait_for("everything to be stored", PATIENCE, || {
        let instances = stored("instances")?;
        for name in &running {
            let (_, epoch) = name.rsplit_once('-').context("no epoch")?;
            let named = format!("-{epoch}\"");
            ensure!(instances.contains(&named), "{named}: {instances}");
        }
        ensure!(get(http, "/metrics")?.contains("\nlb_controller_store_up 1\n"));
        let list = controller.pool(&["list", "web"])?;
        ensure!(!list.contains("  ! "), "{list}");
        Ok(Some(()))
    })?;
    ensure!(!stored("pools")?.contains("\"max\":9"));
    // Once more, and the controller is killed before the store takes the relaunch.
    redis.signal(Signal::SIGSTOP)?;
    let running = relaunch(&controller, http)?;
    controller.kill()?;
    redis.signal(Signal::SIGCONT)?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    ensure!(controller.running() == running, "they were adopted");
    controller.pool(&["scale", "web", "3"])?;
    controller.wait_serving("web", 3)?;
    controller.check()
}
