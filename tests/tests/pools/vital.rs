//! Parts of the controller that hang, and its database.

use std::{fs, process::Command};

use anyhow::{bail, ensure};
use lb_tests::{binary, freeze_threads, wait_for};

use crate::fixture::{Controller, PATIENCE, port};

pub fn a_controller_whose_runtime_hangs_ends_and_the_next_one_goes_on() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("controller.toml");
    fs::write(&file, "watchdog = \"5s\"\n")?;
    let mut controller = Controller::start("hung", &["--config", &file.display().to_string()])?;
    controller.add_web("web", port(), &["scaling.min=2", "scaling.max=2"])?;
    controller.wait_serving("web", 2)?;
    let running = controller.running();
    let process = controller.process_mut()?;
    freeze_threads(process.id(), "tokio-rt-worker")?;
    let (status, output) = process.wait_end(PATIENCE)?;
    assert_eq!(status.code(), Some(1), "{output}");
    // What was stopped may have had what an end in order needs.
    let reason = "the runtime, which runs all tasks, hangs: it has made no progress for 5s";
    ensure!(output.contains(reason), "{output}");
    ensure!(controller.running() == running);
    controller.kill()?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    ensure!(controller.running() == running, "they were adopted");
    Ok(())
}

/// Runs `lb-controller` on the state of a controller.
fn on_state(controller: &Controller, words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(binary("lb-controller")?)
        .args(words)
        .args(["--name", &controller.name, "--state"])
        .arg(controller.state())
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

pub fn pools_are_copied_and_restored() -> anyhow::Result<()> {
    let mut controller = Controller::start("copied", &[])?;
    let limits = ["scaling.min=2", "scaling.max=2"];
    controller.add_web("web", port(), &limits)?;
    controller.wait_serving("web", 2)?;
    let folder = controller.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    let (live, still) = (path("live.backup"), path("still.backup"));
    controller.pool(&["backup", &live])?;
    let refused = controller.pool(&["backup", &live]).unwrap_err().to_string();
    ensure!(refused.contains("exists"), "{refused}");
    for verb in ["backup", "restore"] {
        let refused = on_state(
            &controller,
            &[verb, if verb == "backup" { &still } else { &live }],
        );
        let refused = refused.unwrap_err().to_string();
        ensure!(refused.contains("in use by another process"), "{refused}");
    }
    let running = controller.running();
    // What the copy does not know: an instance that was relaunched since, and a pool.
    controller.kill_instance(&running[0]);
    wait_for("the relaunch", PATIENCE, || {
        let now = controller.running();
        Ok((now.len() == 2 && !now.contains(&running[0])).then_some(()))
    })?;
    controller.add_web("shop", port(), &limits)?;
    controller.wait_serving("shop", 2)?;
    controller.wait_serving("web", 2)?;
    let running = controller.running();
    controller.kill()?;
    let said = on_state(&controller, &["backup", &still])?;
    ensure!(said.starts_with("2 pools written"), "{said}");
    // The disk is lost.
    fs::remove_file(controller.state().join("controller.redb"))?;
    let said = on_state(&controller, &["restore", &live])?;
    ensure!(
        said.contains("pool web: it would be added") && said.contains("nothing was changed"),
        "{said}"
    );
    on_state(&controller, &["restore", &live, "--yes"])?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    let kept: Vec<&String> = running
        .iter()
        .filter(|name| name.starts_with("web-"))
        .collect();
    let web = |name: &&String| name.starts_with("web-");
    ensure!(
        controller.running().iter().filter(web).collect::<Vec<_>>() == kept,
        "{:?}, {kept:?}",
        controller.running()
    );
    controller.kill()?;
    let said = on_state(&controller, &["restore", &still])?;
    ensure!(said.contains("pool shop: it would be added"), "{said}");
    on_state(&controller, &["restore", &still, "--yes"])?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    controller.wait_serving("shop", 2)?;
    ensure!(
        controller.running() == running,
        "{:?}",
        controller.running()
    );
    Ok(())
}
