//! `lbctl apply`: a script of changes on one stream.

use std::{
    collections::HashMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::{Args, Command, FromArgMatches as _, Subcommand as _};
use lb_model::settings::words;
use lb_proto::v1::{self, apply_request, plan_request::Source};
use serde::Serialize;

use super::{Change, Context};
use crate::{
    connect::Client,
    failure::{Failure, code_name},
    output::{Human, plan::Plan},
};

/// Text at the end of the long help.
pub const AFTER: &str = "\
A script holds one command a line, as typed behind `lbctl`; what has spaces
stands in quotes, and what follows a # is a comment:

  # the web
  add-vip 10.0.0.1:80/tcp --window 15m --check 'http path=/healthz'
  add-real 10.0.0.1:80/tcp 10.1.0.2 --weight 200

The commands are add-vip, set-vip, del-vip, add-real, set-real, drain, undrain
and del-real. A script with a line that is no command is not sent at all (exit
status 2). A line that the agent refuses does not keep the others from being
done; each is reported with its number (exit status 1).";

/// The arguments: a script.
#[derive(Args, Debug)]
pub struct Arguments {
    /// The script; without it or with `-`, standard input
    file: Option<PathBuf>,
    /// Change nothing; show what would change, and the share of new flows that would move
    #[arg(long)]
    dry_run: bool,
}

/// A line that the agent rejected.
#[derive(Debug, PartialEq, Serialize)]
struct Refused {
    /// Number of the line in the script, from 1.
    line: u64,
    /// The text of the line.
    command: String,
    /// Name in google.rpc.Code, such as NOT_FOUND.
    code: &'static str,
    /// The agent's message.
    error: String,
}

/// What `apply` prints.
#[derive(Debug, PartialEq, Serialize)]
struct Applied {
    commands: usize,
    applied: usize,
    refused: Vec<Refused>,
}

impl Human for Applied {
    fn human(&self) -> String {
        format!("{} of {} commands done\n", self.applied, self.commands)
    }
}

/// A command of the script.
#[derive(Debug)]
struct Line {
    number: u64,
    text: String,
    change: apply_request::Change,
}

/// Sends the script and reports the result.
pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let output = context.output;
    let (_, script) = read(arguments.file.as_deref())?;
    let lines = parse(&script).map_err(Failure::Usage)?;
    let commands = lines.len();
    let mut texts = HashMap::with_capacity(commands);
    let mut requests = Vec::with_capacity(commands);
    for line in lines {
        texts.insert(line.number, line.text);
        requests.push(v1::ApplyRequest {
            sequence: line.number,
            change: Some(line.change),
        });
    }

    let mut client = context.client().await?;
    if arguments.dry_run {
        return try_out(context, &mut client, requests).await;
    }
    let attempt = "apply the script";
    // Requests are sent without waiting for the answers to earlier ones.
    let mut answers = client
        .apply(tokio_stream::iter(requests))
        .await
        .map_err(Failure::refused(attempt))?
        .into_inner();
    let mut refused = Vec::new();
    let mut answered = 0;
    loop {
        let answer = answers.message().await.map_err(|status| {
            let attempt = format!("{attempt}: {answered} of {commands} lines were answered, then");
            Failure::refused(attempt)(status)
        })?;
        let Some(answer) = answer else { break };
        answered += 1;
        if answer.code != 0 || !answer.error.is_empty() {
            let line = answer.sequence;
            let command = texts.get(&line).cloned().unwrap_or_default();
            eprintln!("lbctl: line {line}: {command}: {}", answer.error);
            refused.push(Refused {
                line,
                command,
                code: code_name(answer.code),
                error: answer.error,
            });
        }
    }
    let applied = answered - refused.len();
    let failed = refused.len();
    output.print(&Applied {
        commands,
        applied,
        refused,
    })?;
    if answered < commands {
        let text = format!("the agent answered only {answered} of {commands} lines");
        return Err(Failure::refused(attempt)(tonic::Status::unavailable(text)));
    }
    if failed > 0 {
        return Err(Failure::Lines {
            refused: failed,
            commands,
        });
    }
    Ok(())
}

/// Prints what the script would change.
async fn try_out(
    context: &Context,
    client: &mut Client,
    changes: Vec<v1::ApplyRequest>,
) -> Result<(), Failure> {
    let plan = client
        .plan(v1::PlanRequest {
            source: Some(Source::Changes(v1::Changes { changes })),
            force: false,
        })
        .await
        .map_err(Failure::refused("try out the script"))?;
    let plan = Plan::of(plan.get_ref(), true);
    context.output.print(&plan)?;
    plan.refused()
}

/// Reads a file, without one or with `-` standard input. Returns its name, too.
pub fn read(file: Option<&Path>) -> Result<(String, String), Failure> {
    let (name, text) = match file {
        Some(path) if path.as_os_str() != "-" => {
            (path.display().to_string(), std::fs::read_to_string(path))
        }
        _ => {
            let mut text = String::new();
            let read = std::io::stdin()
                .lock()
                .read_to_string(&mut text)
                .map(|_| text);
            ("standard input".to_owned(), read)
        }
    };
    match text {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Failure::File {
            attempt: format!("read {name}"),
            error,
        }),
    }
}

/// Reads all commands. If a line is not a command, returns what is wrong with each such line.
fn parse(script: &str) -> Result<Vec<Line>, String> {
    // Building the parser for each of ten thousand lines would take longer than everything else.
    let mut verbs = Change::augment_subcommands(
        Command::new("lbctl")
            .no_binary_name(true)
            .subcommand_required(true)
            .disable_help_subcommand(true),
    );
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    for (number, text) in (1..).zip(script.lines()) {
        let mut words = match words::split(text) {
            Ok(words) => words,
            Err(error) => {
                errors.push(format!("line {number}: {error}"));
                continue;
            }
        };
        if words.first().is_some_and(|word| word == "lbctl") {
            words.remove(0);
        }
        if words.is_empty() {
            continue;
        }
        let change = verbs
            .try_get_matches_from_mut(&words)
            .and_then(|matches| Change::from_arg_matches(&matches));
        match change {
            Ok(change) => match change.request() {
                Ok(request) => lines.push(Line {
                    number,
                    text: words
                        .iter()
                        .map(|word| words::quote(word))
                        .collect::<Vec<_>>()
                        .join(" "),
                    change: request,
                }),
                Err(failure) => {
                    let text = failure.report().unwrap_or_default();
                    errors.push(format!("line {number}: {text}"));
                }
            },
            Err(error) => {
                let error = error.to_string();
                // The first line of a message from clap has the error; the others repeat the usage.
                let first = error.lines().next().unwrap_or_default();
                errors.push(format!(
                    "line {number}: {}",
                    first.trim_start_matches("error: ")
                ));
            }
        }
    }
    if errors.is_empty() {
        Ok(lines)
    } else {
        errors.push(
            "nothing was sent; `lbctl apply --help` shows what a script looks like".to_owned(),
        );
        Err(errors.join("\n  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_hold_commands_and_comments() {
        let script = "# the web\n\nadd-vip 10.0.0.1:80/tcp --window 15m # short\n  lbctl del-real 10.0.0.1:80/tcp 10.1.0.2\n#drain";
        let lines = parse(script).unwrap();
        assert_eq!(
            lines.iter().map(|line| line.number).collect::<Vec<_>>(),
            [3, 4]
        );
        assert_eq!(lines[0].text, "add-vip 10.0.0.1:80/tcp --window 15m");
        let apply_request::Change::AddVip(add) = &lines[0].change else {
            panic!("{:?}", lines[0])
        };
        assert_eq!(add.spec.as_ref().unwrap().window.unwrap().seconds, 900);
        assert!(
            matches!(&lines[1].change, apply_request::Change::DeleteReal(real) if real.address == "10.1.0.2")
        );
    }

    #[test]
    fn what_has_spaces_stands_in_quotes() {
        let script = "add-vip 10.0.0.1:80/tcp --check 'http path=/healthz body=\"all is well\"'";
        let lines = parse(script).unwrap();
        assert_eq!(lines[0].text, script);
        let apply_request::Change::AddVip(add) = &lines[0].change else {
            panic!("{:?}", lines[0])
        };
        assert!(add.spec.as_ref().unwrap().check.is_some());
        let error = parse("drain 10.0.0.1:80/tcp '10.1.0.2").unwrap_err();
        assert!(
            error.starts_with("line 1: drain 10.0.0.1:80/tcp '10.1.0.2: a quotation mark"),
            "{error}"
        );
    }

    #[test]
    fn a_script_does_not_wait() {
        let error = parse("drain 10.0.0.1:80/tcp 10.1.0.2 --wait 5s").unwrap_err();
        assert!(error.contains("line 1: a script does not wait"), "{error}");
        assert!(parse("drain 10.0.0.1:80/tcp 10.1.0.2").is_ok());
    }

    #[test]
    fn every_wrong_line_is_named() {
        let script = "add-vip 10.0.0.1:80/tcp\nadd-vip 10.0.0.1\nlist\nset-real 10.0.0.1:80/tcp 10.1.0.2\nhelp\n";
        let error = parse(script).unwrap_err();
        let lines: Vec<&str> = error.lines().map(str::trim).collect();
        assert_eq!(lines.len(), 5, "{error}");
        for (line, start) in lines.iter().zip([
            "line 2: invalid value '10.0.0.1' for '<VIP>': write a VIP as",
            "line 3: unrecognized subcommand 'list'",
            "line 4: the following required arguments were not provided",
            "line 5: unrecognized subcommand 'help'",
            "nothing was sent",
        ]) {
            assert!(line.starts_with(start), "{line}");
        }
    }
}
