//! Nodes that are virtual machines: a program in the guest has its proxy or its agent follow a configuration.

use lb_clients::peer::proxy::Answer;
use lb_drivers::Command;
use lb_model::pool::InstanceName;

use crate::controller::Controller;

/// The program in a guest that has its proxy follow the configuration on its standard input.
const FOLLOW: &str = "/lb/follow";

/// Has the agent in a guest follow the configuration on the standard input.
const AGENT_FOLLOW: &str =
    "cd /etc/lb && cat >agent.new && mv agent.new agent.toml && exec lbctl reload";

/// Has a node follow the configuration of an agent.
///
/// # Errors
/// Why it does not, in words.
pub async fn follow_as_agent(
    controller: &Controller,
    name: &InstanceName,
    text: &str,
) -> Result<(), String> {
    let command = Command {
        words: ["/bin/sh", "-c", AGENT_FOLLOW].map(str::to_owned).to_vec(),
        input: text.as_bytes().to_vec(),
    };
    let output = controller.exec(name, &command).await;
    let output = output.map_err(|error| error.to_string())?;
    if output.status == 0 {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "it does not follow its configuration: {}",
        why.trim()
    ))
}

/// Has a node follow a configuration.
///
/// # Errors
/// Why it does not, in words.
pub async fn follow(
    controller: &Controller,
    name: &InstanceName,
    text: &str,
    checksum: &str,
) -> Result<(), String> {
    let mut checked = Ok(());
    // The second time it reads the file again, although it is the same.
    for how in ["changed", "again"] {
        let command = Command {
            words: [FOLLOW, checksum, how].map(str::to_owned).to_vec(),
            input: text.as_bytes().to_vec(),
        };
        let output = controller.exec(name, &command).await;
        let output = output.map_err(|error| error.to_string())?;
        if output.status != 0 {
            let why = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "it does not follow its configuration: {}",
                why.trim()
            ));
        }
        checked = Answer::read(&output.stdout)?.check(checksum);
        if checked.is_ok() {
            break;
        }
    }
    checked
}
