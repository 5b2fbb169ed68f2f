//! Parts of the controller that hang, and its database.

use std::fs;

use anyhow::ensure;
use lb_tests::freeze_threads;

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
    for words in [
        "instances run on; start it again",
        "the runtime, which runs all tasks, hangs: it has made no progress for 5s",
    ] {
        ensure!(output.contains(words), "{words}: {output}");
    }
    ensure!(controller.running() == running);
    controller.kill()?;
    controller.run()?;
    controller.wait_serving("web", 2)?;
    ensure!(controller.running() == running, "they were adopted");
    Ok(())
}
