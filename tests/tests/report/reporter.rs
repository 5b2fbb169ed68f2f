//! A reporter in a namespace, read over HTTP.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Context as _;
use lb_tests::{Namespace, Process, binary};

/// The address of its HTTP server, in its namespace.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 7947);
/// How long the reporter may take until it is ready.
const START: Duration = Duration::from_secs(30);

/// A running reporter.
pub struct Reporter {
    namespace: Namespace,
    pub process: Process,
}

impl Reporter {
    /// Starts the reporter with these arguments and waits until it is ready.
    pub fn start(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Self> {
        let http = SocketAddr::from(ADDRESS).to_string();
        let mut all = vec!["report", "--http", &http, "--interval", "500ms"];
        all.extend(arguments);
        let mut process = namespace.start("lb-agent report", binary("lb-agent")?, all)?;
        process.wait_line("lb-agent report:", "ready", START)?;
        Ok(Self {
            namespace: namespace.clone(),
            process,
        })
    }

    /// Returns the latest report.
    pub fn load(&self) -> anyhow::Result<serde_json::Value> {
        let answer = self
            .namespace
            .enter(|| -> std::io::Result<String> {
                let mut stream = TcpStream::connect(SocketAddr::from(ADDRESS))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(b"GET /load HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                Ok(answer)
            })?
            .context("sending a request to the reporter")?;
        let (_, body) = answer
            .split_once("\r\n\r\n")
            .context("the answer is not HTTP")?;
        Ok(serde_json::from_str(body)?)
    }
}
