//! The agent on a real host's interface.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::anyhow;

use crate::{
    command,
    programs::{self, Profile},
};

/// Builds the agent and becomes `lb-agent run` with these arguments.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let folder = programs::build(Profile::Release)?;
    let mut agent = Command::new(folder.join("lb-agent"));
    agent.arg("run").args(arguments);
    println!("    $ {}", command::shown(&agent));
    // Returns only if it fails.
    let error = agent.exec();
    Err(anyhow!(error).context(format!("starting {}", command::shown(&agent))))
}
