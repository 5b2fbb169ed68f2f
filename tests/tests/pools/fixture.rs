//! A controller, and a web server that it operates.

use std::{
    cell::RefCell,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    ops::{Deref, DerefMut},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use lb_tests::{Namespace, server::WEB_SERVER, wait_for};
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running controller. Dropping it ends it and everything that it operates.
pub struct Controller(lb_tests::Controller);

impl Deref for Controller {
    type Target = lb_tests::Controller;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Controller {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Controller {
    /// Starts a controller with these further options.
    pub fn start(name: &str, options: &[&str]) -> anyhow::Result<Self> {
        let namespace = CURRENT.with_borrow(Clone::clone);
        Self::start_on(namespace.as_ref(), name, options)
    }

    /// Starts a controller in a network namespace.
    pub fn start_in(namespace: &Namespace, name: &str, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_on(Some(namespace), name, options)
    }

    fn start_on(
        namespace: Option<&Namespace>,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let name = lb_tests::owner(name);
        let controller = lb_tests::Controller::start(namespace, &name, options)?;
        fs::write(controller.folder().join("server.pl"), WEB_SERVER)?;
        Ok(Self(controller))
    }

    /// The settings of a pool of web servers, with their first port.
    pub fn web(&self, port: u16) -> Vec<String> {
        let script = self.folder().join("server.pl");
        [
            "driver.kind=process".to_owned(),
            format!("network.port={port}"),
            "template.program=/usr/bin/perl".to_owned(),
            format!("template.arguments=['{}', '{{port}}']", script.display()),
            "template.stop_grace=2s".to_owned(),
            "check.kind=http".to_owned(),
            "check.path=/api/v1/_health".to_owned(),
            "check.interval=1s".to_owned(),
            "check.fast_interval=100ms".to_owned(),
        ]
        .to_vec()
    }

    /// Adds a pool of web servers.
    pub fn add_web(&self, name: &str, port: u16, more: &[&str]) -> anyhow::Result<()> {
        let settings = self.web(port);
        let mut words = vec!["add", name];
        words.extend(settings.iter().map(String::as_str));
        words.extend(more);
        self.pool(&words).map(drop)
    }

    /// Kills an instance.
    pub fn kill_instance(&self, name: &str) {
        for pid in self.processes(name) {
            // It may have ended meanwhile.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }

    /// Waits until so many instances serve, and returns them.
    pub fn wait_serving(&self, pool: &str, count: usize) -> anyhow::Result<Vec<Value>> {
        let what = format!("{count} instances of {pool} to serve");
        let waited = wait_for(&what, PATIENCE, || {
            let instances = self.instances(pool)?;
            let serving = instances.iter().filter(|one| is_serving(one)).count();
            ensure!(
                serving == count && instances.len() == count,
                "{instances:?}"
            );
            Ok(Some(instances))
        });
        waited.with_context(|| self.output())
    }
}

/// Reads a page by HTTP, in a moment.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    const MOMENT: Duration = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, MOMENT)?;
    stream.set_read_timeout(Some(MOMENT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(body.to_owned())
}

/// Whether an instance serves.
pub fn is_serving(instance: &Value) -> bool {
    matches!(instance["state"].as_str(), Some("LU" | "MU" | "HU"))
}

/// A first port for a pool that no other pool of this process uses; each test has a network of its own.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Below the ports that the kernel gives out.
    20_000 + NEXT.fetch_add(50, Ordering::Relaxed) % 10_000
}

/// Runs a test in a network namespace of its own, where everything that it starts is as well.
pub fn alone(test: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let namespace = Namespace::new("pools")?;
    namespace.enter(|| {
        CURRENT.set(Some(namespace.clone()));
        test()
    })?
}

thread_local! {
    /// The network namespace of the test that this thread runs.
    static CURRENT: RefCell<Option<Namespace>> = const { RefCell::new(None) };
}

/// The network namespace of the test that this thread runs.
pub fn current() -> anyhow::Result<Namespace> {
    CURRENT
        .with_borrow(Clone::clone)
        .context("the test has no network of its own")
}

/// A text of an answer.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Makes a request of an instance: the status and the body.
pub fn request(endpoint: &str, line: &str) -> anyhow::Result<(u16, String)> {
    let address: SocketAddr = endpoint.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no status")?.parse()?;
    let body = answer.split("\r\n\r\n").nth(1).context("no body")?;
    Ok((status, body.to_owned()))
}
