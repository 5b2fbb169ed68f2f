//! Runs `lbctl`.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// The result of a run.
#[derive(Debug)]
pub struct Run {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Parses standard output of a successful run as JSON.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Parses standard output as one JSON document per line.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let read =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        self.stdout.lines().map(read).collect()
    }
}

/// Returns a command with an endpoint and arguments, without this process's environment.
pub fn command(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lbctl"));
    command
        .env_clear()
        .env("LB_ENDPOINT", endpoint)
        .args(arguments);
    command
}

/// Runs a command to its end.
pub fn run(endpoint: &str, arguments: &[&str]) -> Run {
    run_with(endpoint, arguments, "")
}

/// Runs a command with this standard input.
pub fn run_with(endpoint: &str, arguments: &[&str], input: &str) -> Run {
    let mut child = command(endpoint, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Both pipes are served concurrently because a long script and a long answer would otherwise wait for each other. It is
    // not an error if the program ends before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Run {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Splits arguments at blanks.
pub fn words(arguments: &str) -> Vec<&str> {
    arguments.split_whitespace().collect()
}
