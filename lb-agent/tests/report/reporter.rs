//! A running reporter.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
};

/// `lb-agent report`, killed when it is dropped.
pub struct Reporter {
    child: Child,
    /// Where it says that it is ready.
    pub ready: Vec<String>,
}

impl Reporter {
    /// Starts it and waits until it is ready.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Some(ready) = line.strip_prefix("lb-agent report: ready on ") else {
            let mut said = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut said)
                .unwrap();
            panic!("it said {line:?} instead, and {said}");
        };
        let ready = ready.trim().split(", ").map(str::to_owned).collect();
        Self { child, ready }
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with these words, its output kept.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-agent"));
    command
        .arg("report")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
