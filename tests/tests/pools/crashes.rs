//! The controller is killed.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, ensure};
use lb_tests::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::fixture::{Controller, PATIENCE, port};

/// How often it is killed, unless `LB_CONTROLLER_KILLS` says otherwise.
const KILLS: u32 = 15;

fn kills() -> anyhow::Result<u32> {
    match std::env::var("LB_CONTROLLER_KILLS") {
        Ok(text) => text.parse().context("LB_CONTROLLER_KILLS"),
        Err(_) => Ok(KILLS),
    }
}

/// What really runs is what the controller's list says, one of each number.
fn check(controller: &Controller, count: usize) -> anyhow::Result<()> {
    let instances = controller.wait_serving("web", count)?;
    let listed: BTreeSet<String> = instances
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    wait_for("what runs to be what is listed", PATIENCE, || {
        let running: BTreeSet<String> = controller.running().into_iter().collect();
        ensure!(running == listed, "{running:?} run, {listed:?} are listed");
        Ok(Some(()))
    })
}

pub fn a_controller_that_is_killed_leaves_neither_orphans_nor_doubles() -> anyhow::Result<()> {
    let mut controller = Controller::start("killed", &[])?;
    controller.add_web(
        "web",
        port(),
        &[
            "scaling.min=3",
            "scaling.max=3",
            "scaling.relaunch_first=10ms",
            "scaling.relaunch_most=50ms",
            "check.fast_interval=100ms",
            "template.stop_grace=0ms",
        ],
    )?;
    controller.wait_serving("web", 3)?;
    let mut random = fastrand::Rng::with_seed(1);
    let kills = kills()?;
    for round in 0..kills {
        // Churn: the size changes, and instances die.
        let size = random.u32(2..7);
        // The controller may be killed before it answers.
        let _ = controller.pool(&["scale", "web", &size.to_string()]);
        if random.bool()
            && let Some(name) = controller.running().first()
        {
            for pid in controller.processes(name) {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(random.u64(0..250)));
        controller.kill()?;
        let running = controller.running();
        let numbers: BTreeSet<_> = running
            .iter()
            .filter_map(|name| name.rsplit('-').nth(1))
            .collect();
        ensure!(
            numbers.len() == running.len(),
            "round {round}: two of one number: {running:?}"
        );
        controller.run()?;
        if round % 10 == 9 {
            controller.pool(&["scale", "web", "4"])?;
            check(&controller, 4)?;
        }
    }
    controller.pool(&["scale", "web", "3"])?;
    check(&controller, 3)?;
    controller.pool(&["del", "web"])?;
    // Killed while it deletes.
    std::thread::sleep(Duration::from_millis(50));
    controller.kill()?;
    controller.run()?;
    wait_for("the pool's end", PATIENCE, || {
        Ok((controller.pool(&["list"])?.contains("there are no pools")).then_some(()))
    })?;
    ensure!(
        controller.running().is_empty(),
        "{:?}",
        controller.running()
    );
    controller.check()
}

pub fn a_controller_without_its_state_collects_what_is_left() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("controller.toml");
    let collector = |is_dry: bool| {
        let text = format!("[collector]\ngrace = \"2s\"\ndry_run = {is_dry}\n");
        fs::write(&file, text)
    };
    collector(false)?;
    let mut controller = Controller::start("lost", &["--config", &file.display().to_string()])?;
    let orphans = |controller: &Controller| -> anyhow::Result<Value> {
        let text = controller.lbctl("orphans", &["-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    };
    // Two that have been known for longer than the grace period.
    let wait_kept = |controller: &Controller| {
        wait_for("two orphans that are left alone", PATIENCE, || {
            let found = orphans(controller)?;
            let all = found["orphans"].as_array().context("no list")?;
            let is_kept = |one: &Value| {
                one["kind"] == "instance" && one["left"].is_null() && one["age"].as_u64() >= Some(4)
            };
            ensure!(all.len() == 2 && all.iter().all(is_kept), "{found}");
            Ok(Some(found["dry_run"].clone()))
        })
    };
    let port = port();
    controller.add_web("web", port, &["scaling.min=2", "scaling.max=2"])?;
    controller.wait_serving("web", 2)?;
    assert_eq!(orphans(&controller)?["orphans"], json!([]));
    controller.kill()?;
    // The disk was lost; the processes were not.
    fs::remove_dir_all(controller.state())?;
    controller.run()?;
    // Another pool's driver lists them, and they are left alone.
    controller.add_web("other", port + 40, &["scaling.min=1", "scaling.max=1"])?;
    wait_for("the orphans' names", PATIENCE, || {
        let output = controller.output();
        Ok((output.matches("it is left alone").count() == 2).then_some(()))
    })?;
    assert_eq!(wait_kept(&controller)?, false);
    controller.pool(&["del", "other"])?;
    wait_for("the other pool's end", PATIENCE, || {
        Ok((controller
            .json(&["list"])?
            .as_array()
            .is_some_and(Vec::is_empty))
        .then_some(()))
    })?;
    assert_eq!(controller.running().len(), 2);
    controller.kill()?;
    fs::remove_dir_all(controller.state())?;
    controller.take_over();
    collector(true)?;
    controller.run()?;
    // The same pool again: what is left of its predecessor is not taken for its own, and goes after the grace period.
    controller.add_web("web", port + 20, &["scaling.min=2", "scaling.max=2"])?;
    controller.wait_serving("web", 2)?;
    assert_eq!(wait_kept(&controller)?, true);
    assert_eq!(controller.running().len(), 4);
    controller.kill()?;
    collector(false)?;
    controller.run()?;
    wait_for("the orphans' end", PATIENCE, || {
        let running = controller.running();
        ensure!(running.len() == 2, "{running:?}");
        Ok(Some(()))
    })?;
    assert_eq!(orphans(&controller)?["orphans"], json!([]));
    check(&controller, 2)
}
