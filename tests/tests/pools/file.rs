//! Pools of the configuration file.

use std::fs;

use anyhow::ensure;
use lb_tests::{binary, wait_for};

use crate::fixture::{Controller, PATIENCE, port};

/// A file with pools of programs that wait.
fn file(pools: &[(&str, u16, u32)]) -> String {
    let pools = pools.iter().map(|(name, port, count)| {
        format!(
            r#"
[[pool]]
name = "{name}"
driver = {{ kind = "process" }}
network = {{ port = {port} }}
template = {{ program = "/bin/sleep", arguments = ["100000"], stop_grace = "1s" }}
scaling = {{ min = {count}, max = {count} }}
"#
        )
    });
    pools.collect()
}

pub fn pools_of_the_file_follow_it() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("controller.toml");
    let shown = path.display().to_string();
    let (first, second) = (port(), port());
    fs::write(&path, file(&[("one", first, 1), ("two", second, 2)]))?;
    let check = || {
        std::process::Command::new(binary("lb-controller")?)
            .args(["check", &shown])
            .output()
            .map_err(anyhow::Error::from)
    };
    let output = check()?;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{shown}: 2 pools, nothing wrong\n")
    );
    let controller = Controller::start("file", &["--config", &shown])?;
    controller.wait_serving("one", 1)?;
    controller.wait_serving("two", 2)?;
    // What is in the file is changed there only.
    for words in [
        vec!["set", "one", "scaling.max=2"],
        vec!["scale", "one", "2"],
        vec!["del", "one"],
    ] {
        let error = controller.pool(&words).unwrap_err().to_string();
        ensure!(error.contains("change it there"), "{words:?}: {error}");
    }
    controller.add_web("mine", port(), &["scaling.max=1"])?;
    controller.wait_serving("mine", 1)?;
    // A file that is wrong changes nothing.
    fs::write(&path, "colour = 1\n")?;
    let output = check()?;
    ensure!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("controller.toml:1: colour"), "{said}");
    controller.reload()?;
    wait_for("the error", PATIENCE, || {
        Ok(controller.output().contains("colour").then_some(()))
    })?;
    let warned = |words: &str| {
        wait_for(words, PATIENCE, || {
            let list = controller.pool(&["list"])?;
            ensure!(list.starts_with("! ") && list.contains(words), "{list}");
            Ok(Some(()))
        })
    };
    warned("there is no such setting")?;
    // So is one of which a part cannot be followed, ...
    fs::write(&path, file(&[("mine", port(), 1), ("two", second, 2)]))?;
    controller.reload()?;
    warned("pool mine: there is a pool mine already")?;
    // ... and one with settings that count later.
    let later = "watchdog = \"2m\"\nstore = \"redis:redis://127.0.0.1:1\"\n";
    fs::write(&path, later.to_owned() + &file(&[("two", second, 2)]))?;
    controller.reload()?;
    warned("count when the controller starts again: store, watchdog")?;
    let list = controller.pool(&["list"])?;
    ensure!(
        !list.contains("colour") && !list.contains("already"),
        "{list}"
    );
    // One pool goes, and one has another size.
    fs::write(&path, file(&[("two", second, 3)]))?;
    controller.reload()?;
    controller.wait_serving("two", 3)?;
    wait_for("the end of a pool", PATIENCE, || {
        let list = controller.pool(&["list"])?;
        ensure!(!list.contains("one:") && !list.contains("! "), "{list}");
        Ok(Some(()))
    })?;
    controller.wait_serving("mine", 1)?;
    let output = controller.output();
    for kind in ["trouble: ", "trouble_over: "] {
        ensure!(output.contains(&format!("controller: {kind}")), "{output}");
    }
    Ok(())
}

pub fn a_file_that_was_refused_in_part_is_followed_once_it_can_be() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("controller.toml");
    let shown = path.display().to_string();
    fs::write(&path, "")?;
    let controller = Controller::start("again", &["--config", &shown])?;
    controller.add_web("mine", port(), &["scaling.max=1"])?;
    fs::write(&path, file(&[("mine", port(), 2), ("other", port(), 1)]))?;
    controller.reload()?;
    // What can be followed is.
    controller.wait_serving("other", 1)?;
    wait_for("the refusal", PATIENCE, || {
        let list = controller.pool(&["list"])?;
        ensure!(list.contains("there is a pool mine already"), "{list}");
        Ok(Some(()))
    })?;
    // Nobody reloads it.
    controller.pool(&["del", "mine"])?;
    controller.wait_serving("mine", 2)?;
    wait_for("the end of the warning", PATIENCE, || {
        let list = controller.pool(&["list"])?;
        ensure!(!list.contains("! "), "{list}");
        Ok(Some(()))
    })
}
