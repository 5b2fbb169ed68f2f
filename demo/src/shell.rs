//! The commands that configure a testbed, as a person would type them.

use lb_tests::Agent;

/// Runs `lbctl` with these words, and prints the command.
pub fn lbctl(agent: &Agent, words: &[&str]) -> anyhow::Result<()> {
    print("lbctl", words);
    agent.lbctl(words)?;
    Ok(())
}

/// Prints a command.
pub fn print(program: &str, words: &[&str]) {
    println!("    {program} {}", shown(words));
}

/// Formats words as they are typed in a shell.
fn shown(words: &[&str]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if word.contains(['"', '\'']) {
                format!("\"{}\"", word.replace('"', "\\\""))
            } else if word.contains([' ', '{', '[', '*']) {
                format!("'{word}'")
            } else {
                (*word).to_owned()
            }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_commands_can_be_typed() {
        assert_eq!(
            shown(&["add-vip", "10.0.0.1:1/tcp", "--check", "mqtt interval=1s"]),
            "add-vip 10.0.0.1:1/tcp --check 'mqtt interval=1s'"
        );
        assert_eq!(
            shown(&["scaling.policies=['requests']", "template.arguments=[]"]),
            "\"scaling.policies=['requests']\" 'template.arguments=[]'"
        );
    }
}
