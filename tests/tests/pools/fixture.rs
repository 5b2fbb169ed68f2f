//! A controller, and a web server that it operates.

use std::{
    cell::RefCell,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use lb_tests::{Namespace, Process, binary, wait_for};
use serde_json::Value;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A web server in Perl. `POST /api/v1/_crash` makes it answer 500 from then on, `GET /load` is a load of 95 %; any other request
/// is answered with its name.
pub const SERVER: &str = r#"
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE";
my $down = 0; my $n = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
print "listening on $ARGV[0]\n";
while (1) {
  my $c = $s->accept or next; my $first = <$c> // next;
  while (<$c>) { last if /^\r?$/ }
  $down = 1 if $first =~ m{^POST /api/v1/_crash};
  my $body = $first =~ m{^GET /load} ? '{"busy": 95}' : $n;
  my $status = $down ? "500 Internal Server Error" : "200 OK";
  print $c "HTTP/1.1 $status\r\nx-real: $n\r\nContent-Length: ", length $body, "\r\nConnection: close\r\n\r\n$body"; close $c;
}
"#;

/// A running controller. Dropping it ends it and everything that it operates.
pub struct Controller {
    // Dropped before its folder.
    process: Option<Process>,
    folder: tempfile::TempDir,
    /// Its name.
    pub name: String,
    options: Vec<String>,
    namespace: Option<Namespace>,
}

impl Controller {
    /// Starts a controller with these further options.
    pub fn start(name: &str, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_in(None, name, options)
    }

    /// Starts a controller in a network namespace.
    pub fn start_in(
        namespace: Option<&Namespace>,
        name: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lb-pools-").tempdir()?;
        fs::write(folder.path().join("server.pl"), SERVER)?;
        let mut controller = Controller {
            process: None,
            folder,
            name: format!("test-{}-{name}", std::process::id()),
            options: options.iter().map(|text| (*text).to_owned()).collect(),
            namespace: namespace
                .cloned()
                .or_else(|| CURRENT.with_borrow(Clone::clone)),
        };
        controller.run()?;
        Ok(controller)
    }

    /// Further runs take over what an empty store knows nothing of.
    pub fn take_over(&mut self) {
        self.options.push("--take-over".to_owned());
    }

    /// Starts the program, again.
    pub fn run(&mut self) -> anyhow::Result<()> {
        let mut process = self.spawn()?;
        process.wait_line("lb-controller: ready", "", PATIENCE)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts the program without waiting until it is ready.
    pub fn spawn(&self) -> anyhow::Result<Process> {
        let program = binary("lb-controller")?;
        let mut command = match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => std::process::Command::new(program),
        };
        command
            .args(["run", "--name", &self.name, "--state"])
            .arg(self.state())
            .args(["--listen", &self.endpoint()])
            .args(&self.options);
        Process::start("lb-controller", command)
    }

    /// Tells it to read its configuration file again.
    pub fn reload(&self) -> anyhow::Result<()> {
        let process = self
            .process
            .as_ref()
            .context("the controller does not run")?;
        process.signal(nix::sys::signal::Signal::SIGHUP)
    }

    /// Kills it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Its process.
    pub fn process_mut(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("the controller does not run")
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check(),
            None => bail!("the controller does not run"),
        }
    }

    pub fn output(&self) -> String {
        self.process
            .as_ref()
            .map(Process::output)
            .unwrap_or_default()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn endpoint(&self) -> String {
        format!("unix:{}", self.folder.path().join("api.sock").display())
    }

    /// Runs `lbctl pool` with these words.
    pub fn pool(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = std::process::Command::new(binary("lbctl")?)
            .args(["pool", "--controller", &self.endpoint()])
            .args(words)
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs `lbctl pool` and reads the JSON that it prints.
    pub fn json(&self, words: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(
            &self.pool(&[&["-o", "json"], words].concat())?,
        )?)
    }

    /// The instances of a pool.
    pub fn instances(&self, pool: &str) -> anyhow::Result<Vec<Value>> {
        let list = self.json(&["list", pool])?;
        let instances = list[0]["instances"].as_array();
        instances.cloned().context("no instances")
    }

    /// The settings of a pool of web servers, with their first port.
    pub fn web(&self, port: u16) -> Vec<String> {
        let script = self.folder.path().join("server.pl");
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

    /// The instances that really run: what the control groups of this controller hold.
    pub fn running(&self) -> Vec<String> {
        let group = format!("lb-process-{}", self.name);
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup/unified")];
        roots.push("/sys/fs/cgroup".into());
        let mut names = Vec::new();
        for entry in roots.iter().flat_map(|root| {
            fs::read_dir(root.join(&group))
                .into_iter()
                .flatten()
                .flatten()
        }) {
            let procs = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
            if !procs.trim().is_empty() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        names
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

    /// The processes of an instance.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let group = format!("lb-process-{}/{name}/cgroup.procs", self.name);
        ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .filter_map(|root| fs::read_to_string(Path::new(root).join(&group)).ok())
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- output of lb-controller\n{}", self.output());
        }
        self.process = None;
        // What it operated runs on without it.
        let group = format!("lb-process-{}", self.name);
        for entry in fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
        {
            remove_group(&entry.path().join(&group));
        }
        remove_group(&Path::new("/sys/fs/cgroup").join(&group));
    }
}

/// Kills what is in a tree of groups, and removes it.
fn remove_group(group: &Path) {
    if !group.join("cgroup.procs").is_file() {
        return;
    }
    for child in fs::read_dir(group).into_iter().flatten().flatten() {
        if child.path().is_dir() {
            remove_group(&child.path());
        }
    }
    let _ = wait_for("the end of a group", Duration::from_secs(10), || {
        for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
            if let Ok(pid) = pid.parse() {
                // Fails for a process that has ended meanwhile.
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
        // The group may be gone in this hierarchy.
        fs::remove_dir(group)?;
        Ok(Some(()))
    });
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
