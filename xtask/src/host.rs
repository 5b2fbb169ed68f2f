//! The agent on an interface of this host.

use std::process::Command;

use crate::{
    command,
    programs::{self, Profile},
};

/// Builds the agent and replaces this process by `lb-agent run` with these arguments. Returns only on failure.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let folder = programs::build(Profile::Release, &programs::PRODUCT)?;
    let mut agent = Command::new(folder.join("lb-agent"));
    agent.arg("run").args(arguments);
    command::replace_this_process(&mut agent)
}
