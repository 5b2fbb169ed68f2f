//! The program `lb-proxy` as an operator runs it.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use futures::SinkExt as _;
use lb_model::settings::Settings as _;
use lb_proxy::config::{
    CacheSettings, ListenerSettings, MemberSettings, ProxySettings, RouteSettings, ServiceSettings,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAM: &str = env!("CARGO_BIN_EXE_lb-proxy");

/// A running program, which is killed when it is dropped.
struct Program {
    child: Child,
    errors: Arc<Mutex<String>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(arguments: &[&str], variables: &[(&str, &str)]) -> (Self, String) {
        let child = Command::new(PROGRAM)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self::of(child)
    }

    /// The program that this process is, once it is ready.
    fn of(mut child: Child) -> (Self, String) {
        let errors = Arc::new(Mutex::new(String::new()));
        let (kept, stderr) = (Arc::clone(&errors), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        assert!(
            ready.starts_with("lb-proxy: ready on "),
            "{ready}{}",
            errors.lock().unwrap()
        );
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let program = Program {
            child,
            errors,
            lines,
        };
        (program, ready)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn ends(&mut self) -> bool {
        self.ends_with() == Some(0)
    }

    /// The exit status, once it has ended.
    fn ends_with(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Lowers, or raises again, the number of files that it may have.
    fn limit_files(&self, most: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &process, &format!("--nofile={most}:")])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// The number that its next file would have.
    fn next_file(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        let open: BTreeSet<usize> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .collect();
        (0..).find(|number| !open.contains(number)).unwrap()
    }

    /// Bytes of memory that it has now.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes << 10
    }

    fn says(&self, words: &str) {
        wait_until(words, || self.errors.lock().unwrap().contains(words));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// An instance that answers each request with a text, and keeps its connections.
fn instance(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                loop {
                    let mut line = String::new();
                    match reader.read_line(&mut line) {
                        Ok(0) | Err(_) => return,
                        Ok(_) if line == "\r\n" => {
                            let length = text.len();
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
                            );
                            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                                return;
                            }
                        }
                        Ok(_) => {}
                    }
                }
            });
        }
    });
    address
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn ask(address: SocketAddr, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Posts a body to the administration.
fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str) -> String {
    ask(address, "GET", path).unwrap()
}

struct Setup {
    folder: tempfile::TempDir,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Setup {
    fn new() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Setup {
            folder: tempfile::tempdir().unwrap(),
            address: local(free_port()),
            admin: local(free_port()),
        }
    }

    fn file(&self) -> String {
        self.folder.path().join("proxy.toml").display().to_string()
    }

    fn write(&self, instances: &[SocketAddr], more: &str) {
        self.write_service(instances, "cache = {}", more);
    }

    /// With these settings of the service, and further ones of the proxy.
    fn write_service(&self, instances: &[SocketAddr], service: &str, more: &str) {
        let members: String = instances
            .iter()
            .map(|address| format!("[[service.member]]\naddress = \"{address}\"\n"))
            .collect();
        let text = format!(
            "threads = 2\nadmin = \"{}\"\n{more}\n[[listener]]\naddress = \"{}\"\n[[route]]\nservice = \"web\"\n\
             [[service]]\nname = \"web\"\n{service}\n{members}",
            self.admin, self.address
        );
        std::fs::write(self.file(), text).unwrap();
    }

    fn run(&self) -> Program {
        Program::start(&["run", "--config", &self.file()], &[]).0
    }
}

#[test]
fn a_proxy_is_changed_while_it_runs_and_its_file_with_it() {
    let setup = Setup::new();
    setup.write(&[instance("web")], "");
    let program = setup.run();
    let change = |body: &str| post(setup.admin, "/v1/change", body);
    let answer = change(&format!(
        r#"{{ "add-service": {{ "name": "shop", "member": [{{ "address": "{}" }}] }} }}"#,
        instance("shop")
    ));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = change(r#"{ "set-route": { "path": "/buy", "service": "shop" } }"#);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(get(setup.address, "/buy/it").ends_with("shop"));
    assert!(get(setup.address, "/").ends_with("web"));
    for (body, words) in [
        ("nonsense", "no change in JSON"),
        (
            r#"{ "remove-service": "shop" }"#,
            "a route names service shop",
        ),
        (
            r#"{ "set-route": { "service": "none" } }"#,
            "no service of this name",
        ),
    ] {
        let before = std::fs::read_to_string(setup.file()).unwrap();
        let answer = change(body);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains(words), "{answer}");
        assert_eq!(std::fs::read_to_string(setup.file()).unwrap(), before);
    }
    // A change that is right by itself and cannot be followed is taken back.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = std::fs::read_to_string(setup.file()).unwrap();
    let listener = format!(
        "[[listener]]\naddress = \"{}\"\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(setup.file(), format!("{listener}{file}")).unwrap();
    let answer = change(r#"{ "add-service": { "name": "more" } }"#);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        !std::fs::read_to_string(setup.file())
            .unwrap()
            .contains("more")
    );
    std::fs::write(setup.file(), file).unwrap();
    // The next proxy finds what was changed.
    drop(program);
    let _program = setup.run();
    assert!(get(setup.address, "/buy/it").ends_with("shop"));
    for body in [
        r#"{ "remove-route": { "path": "/buy" } }"#,
        r#"{ "remove-service": "shop" }"#,
    ] {
        let answer = change(body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(get(setup.address, "/buy/it").ends_with("web"));
}

#[test]
fn a_proxy_serves_reloads_and_ends() {
    let setup = Setup::new();
    setup.write(&[instance("old")], "");
    let mut program = setup.run();
    assert!(get(setup.address, "/").ends_with("old"));
    let metrics = get(setup.admin, "/metrics");
    assert!(
        metrics.contains("lb_proxy_answers_total{result=\"2xx\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("lb_instance_requests_total{service=\"web\",real=\"127.0.0.1:"));
    assert!(get(setup.admin, "/healthz").ends_with("ok\n"));
    let services = get(setup.admin, "/v1/services");
    assert!(
        services.contains("\"name\":\"web\"") && services.contains("\"state\":\"up\""),
        "{services}"
    );
    let purged = ask(
        setup.admin,
        "POST",
        "/v1/purge?service=web&prefix=http://a.test/",
    )
    .unwrap();
    assert!(purged.ends_with("{\"purged\":0}\n"), "{purged}");

    setup.write(&[instance("new")], "");
    program.signal(Signal::SIGHUP);
    program.says("were read again");
    assert!(get(setup.admin, "/v1/services").contains("\"not_followed\":null"));
    assert!(get(setup.address, "/").ends_with("new"));
    std::fs::write(setup.file(), "nonsense = 1").unwrap();
    program.signal(Signal::SIGHUP);
    program.says("nothing was changed");
    assert!(get(setup.address, "/").ends_with("new"));
    // That stays to be seen until a good file was read.
    let refused = || get(setup.admin, "/metrics").contains("\nlb_proxy_reload_refused 1\n");
    let services = get(setup.admin, "/v1/services");
    for words in [
        "proxy.toml:1: nonsense",
        "\"warnings\":[\"the configuration is not followed since a reload",
    ] {
        assert!(services.contains(words), "{words}: {services}");
    }
    assert!(refused());

    // What counts at the start only is said, until it is as it was.
    let services = || get(setup.admin, "/v1/services");
    assert!(
        services().contains("\"at_next_start\":[]"),
        "{}",
        services()
    );
    setup.write(&[instance("newer")], "max_connections = 100");
    program.signal(Signal::SIGHUP);
    program.says("count when the proxy starts again: max_connections");
    assert!(services().contains("\"at_next_start\":[\"max_connections\"]"));
    assert!(
        services().contains("\"not_followed\":null"),
        "{}",
        services()
    );
    assert!(!refused());
    assert!(get(setup.address, "/").ends_with("newer"));
    setup.write(&[instance("newest")], "");
    program.signal(Signal::SIGHUP);
    wait_until("the old settings", || {
        services().contains("\"at_next_start\":[]")
    });

    program.signal(Signal::SIGTERM);
    assert!(program.ends(), "{}", program.errors.lock().unwrap());
    assert!(TcpStream::connect(setup.address).is_err());
}

#[test]
fn members_of_a_file_are_followed() {
    let setup = Setup::new();
    let members = setup.folder.path().join("web.members");
    std::fs::write(&members, format!("{}\n", instance("old"))).unwrap();
    let text = format!(
        "admin = \"{}\"\n[[listener]]\naddress = \"{}\"\n[[route]]\nservice = \"web\"\n[[service]]\nname = \"web\"\nmembers_file = \"{}\"\n",
        setup.admin,
        setup.address,
        members.display()
    );
    std::fs::write(setup.file(), text).unwrap();
    let _program = setup.run();
    wait_until("the first one answers", || {
        get(setup.address, "/").ends_with("old")
    });
    std::fs::write(&members, format!("{} 50 # another\n", instance("new"))).unwrap();
    wait_until("the other one answers", || {
        get(setup.address, "/").ends_with("new")
    });
    let services = || get(setup.admin, "/v1/services");
    assert!(
        services().contains("\"source_lost\":null"),
        "{}",
        services()
    );
    assert!(
        get(setup.admin, "/metrics")
            .contains("lb_service_source_lost_seconds{service=\"web\"} 0\n")
    );
    // Without the file the last ones are kept, and that is said.
    std::fs::remove_file(&members).unwrap();
    wait_until("the loss is said", || {
        services()
            .contains("\"warnings\":[\"service web: the source of its instances is not followed")
    });
    assert!(services().contains("No such file"), "{}", services());
    assert!(
        !get(setup.admin, "/metrics")
            .contains("lb_service_source_lost_seconds{service=\"web\"} 0\n")
    );
    assert!(get(setup.address, "/").ends_with("new"));
    // A file that could not be read is read again, although it looks as it did.
    let last = format!("{}\n", instance("last"));
    let wrong = last.replacen('1', "x", 1);
    std::fs::write(&members, wrong).unwrap();
    let changed = std::fs::metadata(&members).unwrap().modified().unwrap();
    wait_until("the wrong line is said", || {
        services().contains("line 1: write ADDRESS:PORT")
    });
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(&members)
        .unwrap();
    file.write_all(last.as_bytes()).unwrap();
    file.set_modified(changed).unwrap();
    drop(file);
    wait_until("the last one answers", || {
        get(setup.address, "/").ends_with("last")
    });
    assert!(services().contains("\"warnings\":[]"), "{}", services());
}

/// A connection that is kept.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Kept(BufReader::new(stream))
    }

    fn send(&mut self, path: &str) {
        // In one piece: the second one would wait for an acknowledgement.
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Reads an answer: its head and its body.
    fn answer(&mut self) -> String {
        let mut text = String::new();
        let mut length = 0;
        while !text.ends_with("\r\n\r\n") {
            let start = text.len();
            assert_ne!(self.0.read_line(&mut text).unwrap(), 0, "{text}");
            if let Some(number) = text[start..]
                .to_ascii_lowercase()
                .strip_prefix("content-length: ")
            {
                length = number.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        text + std::str::from_utf8(&body).unwrap()
    }

    fn ask(&mut self, path: &str) -> String {
        self.send(path);
        self.answer()
    }
}

/// No instance was blamed for anything.
fn assert_nobody_is_blamed(metrics: &str) {
    let failures = metrics
        .lines()
        .filter(|line| line.starts_with("lb_instance_failures_total{"));
    for line in failures {
        assert!(line.ends_with(" 0"), "{line}");
    }
    let ejected = metrics
        .lines()
        .filter(|line| line.starts_with("lb_instance_ejected{"));
    assert!(
        ejected.clone().count() > 0 && ejected.clone().all(|line| line.ends_with(" 0")),
        "{metrics}"
    );
}

#[test]
fn a_proxy_without_descriptors_blames_no_instance() {
    let setup = Setup::new();
    // Each request takes a connection of its own, and one failure would be enough.
    setup.write_service(
        &[instance("fine"), instance("fine")],
        "eject_after = 1\nmax_idle = 0",
        "",
    );
    let program = setup.run();
    let mut client = Kept::connect(setup.address);
    let mut admin = Kept::connect(setup.admin);
    assert!(client.ask("/").ends_with("fine"));
    assert!(admin.ask("/v1/services").contains("\"warnings\":[]"));

    // Connections to instances may just be closing.
    let mut answer = String::new();
    wait_until("no descriptor is left", || {
        program.limit_files(&program.next_file().to_string());
        thread::sleep(Duration::from_millis(50));
        answer = client.ask("/");
        answer.starts_with("HTTP/1.1 503")
    });
    for _ in 0..5 {
        let answer = client.ask("/");
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("this proxy lacks"),
            "{answer}"
        );
    }
    // Another client waits until there are descriptors.
    let mut waiting = Kept::connect(setup.address);
    waiting.send("/");
    let metric = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let mut metrics = String::new();
    let start = Instant::now();
    while metrics.is_empty()
        || metric(&metrics, "lb_proxy_own_troubles_total{reason=\"accept\"}") == 0
    {
        assert!(start.elapsed() < PATIENCE, "{metrics}");
        metrics = admin.ask("/metrics");
    }
    assert!(
        metric(&metrics, "lb_proxy_own_troubles_total{reason=\"files\"}") >= 5,
        "{metrics}"
    );
    assert_nobody_is_blamed(&metrics);
    let services = admin.ask("/v1/services");
    for words in [
        "Too many open files",
        "says nothing about their instances",
        "clients wait to be accepted",
    ] {
        assert!(services.contains(words), "{words}: {services}");
    }
    program.says("Too many open files");
    // The log is not flooded.
    let said = program
        .errors
        .lock()
        .unwrap()
        .matches("Too many open files")
        .count();
    assert!(said < 20, "{said}");

    program.limit_files("4096");
    assert!(waiting.answer().ends_with("fine"));
    for _ in 0..5 {
        assert!(client.ask("/").ends_with("fine"));
    }
    assert_nobody_is_blamed(&admin.ask("/metrics"));
}

#[test]
fn fewer_descriptors_leave_room_for_fewer_clients() {
    let setup = Setup::new();
    setup.write(&[instance("fine")], "");
    let output = Command::new("prlimit")
        .args([
            "--nofile=300:300",
            "--",
            PROGRAM,
            "run",
            "--config",
            &setup.file(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut program = Program::of(output).0;
    program.says("the limit of 300 open files is enough for 86 clients");
    // More than those are served all the same, one after another.
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(setup.address).unwrap())
        .collect();
    let open = || get(setup.admin, "/metrics").contains("lb_proxy_open_connections 86\n");
    wait_until("86 are accepted", open);
    drop(clients);
    assert!(get(setup.address, "/").ends_with("fine"));
    let metrics = get(setup.admin, "/metrics");
    assert!(
        metrics.contains("lb_proxy_own_troubles_total{reason=\"accept\"} 0"),
        "{metrics}"
    );
    program.signal(Signal::SIGTERM);
    assert!(program.ends());
}

/// An instance that answers after a while.
fn slow_instance(time: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                    if line == "\r\n" {
                        thread::sleep(time);
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow";
                        if reader.get_mut().write_all(answer).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

#[test]
fn a_proxy_that_was_stopped_blames_no_instance() {
    let setup = Setup::new();
    let slow = slow_instance(Duration::from_millis(500));
    setup.write_service(&[slow], "answer_timeout = \"1s\"", "");
    let program = setup.run();
    let mut clients: Vec<Kept> = (0..20).map(|_| Kept::connect(setup.address)).collect();
    for client in &mut clients {
        client.send("/");
    }
    let pending = || get(setup.admin, "/metrics").contains("lb_proxy_open_requests 20\n");
    wait_until("all are on their way", pending);
    program.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_secs(2));
    program.signal(Signal::SIGCONT);
    for client in &mut clients {
        let answer = client.answer();
        assert!(answer.ends_with("slow"), "{answer}");
    }
    assert_nobody_is_blamed(&get(setup.admin, "/metrics"));
}

#[test]
fn a_proxy_whose_listening_socket_is_gone_ends_and_says_why() {
    let setup = Setup::new();
    let socket = setup.folder.path().join("handover.sock");
    setup.write(
        &[instance("fine")],
        &format!("handover = \"{}\"", socket.display()),
    );
    let notify = setup.folder.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut program = Program::start(
        &["run", "--config", &setup.file()],
        &[("NOTIFY_SOCKET", &notify.display().to_string())],
    )
    .0;
    assert!(get(setup.address, "/").ends_with("fine"));
    // A process that has the sockets as well closes one for all.
    let (sockets, _) = lb_proxy::listen::handover::receive(&socket)
        .unwrap()
        .unwrap();
    let victim = &sockets[&setup.address][0];
    nix::sys::socket::shutdown(victim.as_raw_fd(), nix::sys::socket::Shutdown::Read).unwrap();
    assert_eq!(program.ends_with(), Some(1));
    let reason = "a thread that serves clients failed";
    for words in [
        "the proxy ends; start it again",
        reason,
        "accepting connections on",
        "Invalid argument",
    ] {
        program.says(words);
    }
    let mut heard = String::new();
    while !heard.contains("STATUS=") {
        let mut text = [0; 1_024];
        let length = manager.recv(&mut text).unwrap();
        heard.push_str(std::str::from_utf8(&text[..length]).unwrap());
    }
    assert!(heard.contains(reason), "{heard}");
}

#[test]
fn a_drain_that_takes_longer_than_the_watchdog_waits_is_no_failure() {
    let setup = Setup::new();
    setup.write(
        &[slow_instance(Duration::from_secs(9))],
        "watchdog = \"5s\"",
    );
    let mut program = setup.run();
    let mut client = Kept::connect(setup.address);
    client.send("/");
    let pending = || get(setup.admin, "/metrics").contains("lb_proxy_open_requests 1\n");
    wait_until("it is on its way", pending);
    program.signal(Signal::SIGTERM);
    assert!(client.answer().ends_with("slow"));
    assert!(program.ends(), "{}", program.errors.lock().unwrap());
}

/// Requests over restarts: `cargo xtask test --all` sets more. (`LB_PROXY_RESTART_REQUESTS`)
const RESTART_REQUESTS: u64 = 800;

#[test]
fn a_restart_fails_no_request() {
    let wanted = std::env::var("LB_PROXY_RESTART_REQUESTS");
    let wanted: u64 = wanted.map_or(RESTART_REQUESTS, |text| text.parse().unwrap());
    let restarts = (wanted / 10_000).max(3);
    let between = wanted / (restarts + 1);
    let setup = Setup::new();
    let socket = setup.folder.path().join("handover.sock");
    let more = format!("handover = \"{}\"", socket.display());
    setup.write(&[instance("fine"), instance("fine")], &more);
    let mut program = setup.run();
    let stop = AtomicBool::new(false);
    let requests = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..6 {
            let (stop, requests, failures) = (&stop, &requests, &failures);
            let address = setup.address;
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let done = match number % 2 {
                        0 => ask(address, "GET", "/").and_then(|answer| {
                            requests.fetch_add(1, SeqCst);
                            match answer.ends_with("fine") {
                                true => Ok(()),
                                false => Err(std::io::Error::other(answer)),
                            }
                        }),
                        _ => keep_alive(address, stop, requests),
                    };
                    if let Err(error) = done {
                        failures.lock().unwrap().push(error.to_string());
                    }
                }
            });
        }
        for _ in 0..restarts {
            let before = requests.load(SeqCst);
            wait_until("requests are answered", || {
                requests.load(SeqCst) > before + between
            });
            let next = setup.run();
            assert!(program.ends(), "{}", program.errors.lock().unwrap());
            program = next;
        }
        let before = requests.load(SeqCst);
        wait_until("requests are answered", || {
            requests.load(SeqCst) > before + between
        });
        stop.store(true, SeqCst);
    });
    let requests = requests.load(SeqCst);
    let failed = failures.lock().unwrap().len();
    println!("{requests} requests, {failed} failed, {restarts} restarts");
    assert!(requests >= wanted);
    assert_eq!(*failures.lock().unwrap(), [""; 0]);
    assert!(socket.exists());
    program.signal(Signal::SIGTERM);
    assert!(program.ends());
    assert!(!socket.exists());
}

/// Requests on one connection until the proxy says that it ends.
fn keep_alive(address: SocketAddr, stop: &AtomicBool, requests: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_mut().set_read_timeout(Some(PATIENCE))?;
    let mut count = 0;
    loop {
        stream
            .get_mut()
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")?;
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(std::io::Error::other(format!("no answer after {count}")));
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        stream.read_exact(&mut [0; 4])?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(head));
        }
        count += 1;
        requests.fetch_add(1, SeqCst);
        if head.to_ascii_lowercase().contains("connection: close") || stop.load(SeqCst) {
            return Ok(());
        }
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new();
    let text = format!(
        "[[listener]]\naddress = \"{}\"\n",
        taken.local_addr().unwrap()
    );
    std::fs::write(setup.file(), text).unwrap();
    let output = Command::new(PROGRAM)
        .args(["run", "--config", &setup.file()])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("in use"), "{error}");
}

#[test]
fn a_file_is_checked() {
    let check = |path: &Path| {
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg(path)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let setup = Setup::new();
    setup.write(&[instance("x")], "");
    let (code, text) = check(Path::new(&setup.file()));
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.ends_with("1 listeners, 1 routes, 1 services, nothing wrong\n"),
        "{text}"
    );
    setup.write(&[], "nonsense = 1");
    let (code, text) = check(Path::new(&setup.file()));
    assert_eq!(code, Some(1));
    assert!(text.contains("proxy.toml:3: nonsense"), "{text}");
    // Nothing to serve is wrong usage.
    let output = Command::new(PROGRAM)
        .arg("run")
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_example_is_right() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proxy.toml");
    let text = std::fs::read_to_string(&example).unwrap();
    lb_proxy::config::Config::parse(&text, &example).unwrap();
    let keys = [
        ProxySettings::fields(),
        ListenerSettings::fields(),
        RouteSettings::fields(),
        ServiceSettings::fields(),
        CacheSettings::fields(),
        MemberSettings::fields(),
    ];
    for field in keys.iter().flatten() {
        assert!(
            text.contains(&format!("{} = ", field.name)),
            "the example lacks {}",
            field.name
        );
    }
}

/// Asks the administration over a Unix socket.
fn ask_socket(path: &Path, method: &str, page: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{method} {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn the_administration_is_served_on_a_unix_socket_and_reloads() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::new();
    let socket = setup.folder.path().join("run").join("admin.sock");
    let handover = setup.folder.path().join("handover.sock");
    let write = |text: &'static str| {
        setup.write(
            &[instance(text)],
            &format!("handover = \"{}\"", handover.display()),
        );
        let file = std::fs::read_to_string(setup.file()).unwrap();
        let admin = format!("admin = \"{}\"", setup.admin);
        let file = file.replace(&admin, &format!("admin = \"unix:{}\"", socket.display()));
        std::fs::write(setup.file(), &file).unwrap();
        format!("\"config\":\"{:08x}\"", crc32fast::hash(file.as_bytes()))
    };
    let ask = |method, page| ask_socket(&socket, method, page).unwrap();
    let first = write("one");
    let (program, ready) = Program::start(&["run", "--config", &setup.file()], &[]);
    let place = format!("unix:{}", socket.display());
    assert!(ready.contains(&place), "{ready}");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(ask("GET", "/metrics").contains("lb_proxy_connections_total"));
    assert!(ask("GET", "/v1/services").contains(&first));

    // A reload says that it was followed, and what is followed.
    let second = write("two");
    assert!(ask("GET", "/v1/services").contains(&first));
    let answer = ask("POST", "/v1/reload");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&second),
        "{answer}"
    );
    assert!(ask("GET", "/v1/services").contains(&second));
    assert!(get(setup.address, "/").ends_with("two"));
    let good = std::fs::read_to_string(setup.file()).unwrap();
    std::fs::write(setup.file(), format!("nonsense = 1\n{good}")).unwrap();
    let answer = ask("POST", "/v1/reload");
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("proxy.toml:1: nonsense"),
        "{answer}"
    );
    assert!(ask("GET", "/v1/services").contains(&second));
    let answer = ask("GET", "/v1/reload");
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    std::fs::write(setup.file(), good).unwrap();

    // The next proxy gets the socket from the one before.
    let mut before = program;
    let mut program = setup.run();
    assert!(before.ends(), "{}", before.errors.lock().unwrap());
    assert!(ask("GET", "/v1/services").contains(&second));
    // One that runs beside it does not.
    let output = Command::new(PROGRAM)
        .args(["run", "--admin", &place])
        .env("HOST_PORT_HTTP_BALANCER", "127.0.0.1:0")
        .env("HOST_PORT_WS_DEPLOYMENT_AGENT", "1")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("a running process serves it"),
        "{error}"
    );
    // One that is killed leaves the socket, which the next one replaces, and removes at its end.
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert!(socket.exists());
    let mut program = setup.run();
    assert!(ask("GET", "/v1/services").contains(&second));
    program.signal(Signal::SIGTERM);
    assert!(program.ends(), "{}", program.errors.lock().unwrap());
    assert!(!socket.exists());
}

#[test]
fn checks_that_cannot_be_made_say_nothing_about_instances() {
    let setup = Setup::new();
    let check =
        "max_idle = 0\ncheck = { kind = \"tcp\", interval = \"100ms\", unhealthy_threshold = 1 }";
    setup.write_service(&[instance("fine"), instance("fine")], check, "");
    let program = setup.run();
    let mut admin = Kept::connect(setup.admin);
    let mut metrics = String::new();
    wait_until("both are up", || {
        metrics = admin.ask("/metrics");
        let services = admin.ask("/v1/services");
        services.matches("\"health\":{").count() == 2
    });
    let metric = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let lost = "lb_service_checks_total{service=\"web\",result=\"inconclusive\"}";
    wait_until("no descriptor is left", || {
        program.limit_files(&program.next_file().to_string());
        thread::sleep(Duration::from_millis(50));
        metrics = admin.ask("/metrics");
        metric(&metrics, lost) > 20
    });
    let services = admin.ask("/v1/services");
    assert_eq!(
        services.matches("\"state\":\"down\"").count(),
        0,
        "{services}"
    );
    assert!(
        services.contains("Too many open files")
            && services.contains("instances stay as they were found before"),
        "{services}"
    );
    assert!(metric(&metrics, "lb_proxy_own_troubles_total{reason=\"checks\"}") > 0);
    for name in [
        "lb_instance_up",
        "lb_service_eligible_instances{service=\"web\"}",
    ] {
        assert!(metric(&metrics, name) > 0, "{metrics}");
    }
    program.limit_files("4096");
    assert!(get(setup.address, "/").ends_with("fine"));
}

/// A deployment agent: each client gets the present list of instances, and each new one.
fn deployment_agent(
    list: tokio::sync::watch::Receiver<String>,
) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut list = list.clone();
            tokio::spawn(async move {
                let mut stream = tokio_tungstenite::accept_async(stream).await.unwrap();
                loop {
                    let text = list.borrow_and_update().clone();
                    let sent = stream.send(text.into()).await;
                    if sent.is_err() || list.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (runtime, address)
}

#[test]
fn the_environment_configures_a_proxy_without_a_file() {
    let (first, second) = (instance("first"), instance("second"));
    let entry = |address: SocketAddr| {
        format!(
            "[{{\"id\":\"x\",\"ip\":\"127.0.0.1\",\"port\":{},\"score\":0.9}}]",
            address.port()
        )
    };
    let (lists, list) = tokio::sync::watch::channel(entry(first));
    let (runtime, agent) = deployment_agent(list);
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (mut program, ready) = Program::start(
        &["run"],
        &[
            ("HOST_PORT_HTTP_BALANCER", &address.to_string()),
            ("HOST_PORT_WS_DEPLOYMENT_AGENT", &agent.port().to_string()),
            ("TARGET_PORT", "3000"),
            ("CACHE_CAPACITY", "100"),
            ("REQUEST_TIMEOUT", "5"),
        ],
    );
    assert!(ready.contains(&address.to_string()), "{ready}");
    wait_until("the first one answers", || {
        get(address, "/").ends_with("first")
    });
    lists.send(entry(second)).unwrap();
    wait_until("the second one answers", || {
        get(address, "/").ends_with("second")
    });
    // The agent is gone; the last list is kept.
    runtime.shutdown_background();
    program.says("the instances stay as they are");
    assert!(get(address, "/").ends_with("second"));
    program.signal(Signal::SIGTERM);
    assert!(program.ends());
}

#[test]
fn requests_are_logged() {
    let setup = Setup::new();
    setup.write(&[instance("fine")], "access_log = \"all\"");
    let program = setup.run();
    assert!(get(setup.address, "/x?y").ends_with("fine"));
    ask(setup.address, "TRACE", "/z").unwrap();
    wait_until("two lines", || program.lines.lock().unwrap().len() == 2);
    let lines: Vec<serde_json::Value> = program
        .lines
        .lock()
        .unwrap()
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let first = &lines[0];
    for (field, value) in [
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("host", "a.test"),
        ("path", "/x?y"),
        ("service", "web"),
        ("cache", "miss"),
    ] {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(
        (&first["status"], &first["bytes"]),
        (&200.into(), &4.into())
    );
    assert!(
        first["instance"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    assert_eq!(lines[1]["status"], 405);
}

/// Bytes of a large body.
const LARGE: usize = 256 << 20;
const BLOCK: usize = 64 << 10;
/// What a proxy may keep of bodies that pass, whatever their size.
const KEPT: usize = 48 << 20;

/// An instance that sends, or reads, a large body.
fn large_instance() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let block = vec![b'x'; BLOCK];
                if head.starts_with("POST") {
                    // In chunks: until the last one.
                    let mut tail = Vec::new();
                    let mut part = vec![0; BLOCK];
                    while !tail.ends_with(b"0\r\n\r\n") {
                        let Ok(length @ 1..) = reader.read(&mut part) else {
                            return;
                        };
                        tail.extend_from_slice(&part[..length]);
                        tail.drain(..tail.len().saturating_sub(5));
                    }
                    let _ = reader
                        .get_mut()
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                    return;
                }
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\nCache-Control: max-age=60\r\n\r\n"
                );
                let _ = reader.get_mut().write_all(head.as_bytes());
                for _ in 0..LARGE / BLOCK {
                    if reader.get_mut().write_all(&block).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn an_idle_connection_takes_little_memory() {
    const CLIENTS: usize = 500;
    /// The buffers of a connection that is not parked are 16 KiB alone.
    const MOST: usize = 12 << 10;
    let setup = Setup::new();
    setup.write(&[instance("fine")], "");
    let program = setup.run();
    let connect = || {
        let mut client = Kept::connect(setup.address);
        assert!(client.ask("/").ends_with("fine"));
        client
    };
    // In parts, since the allocator keeps what is free for the next ones.
    let before = program.memory();
    let mut clients: Vec<Kept> = Vec::new();
    for _ in 0..4 {
        clients.extend((0..CLIENTS).map(|_| connect()));
        let parked = format!("\nlb_proxy_parked_connections {}\n", clients.len());
        wait_until("all are parked", || {
            get(setup.admin, "/metrics").contains(&parked)
        });
    }
    let each = program.memory().saturating_sub(before) / clients.len();
    assert!(each < MOST, "{each} bytes for each idle connection");
    for client in &mut clients {
        assert!(client.ask("/").ends_with("fine"));
    }
}

#[test]
fn memory_does_not_grow_with_bodies() {
    let setup = Setup::new();
    setup.write(&[large_instance()], "");
    let program = setup.run();
    let before = program.memory();
    let check = |what: &str| {
        let grown = program.memory().saturating_sub(before);
        assert!(grown < KEPT, "{what}: {} MiB more", grown >> 20);
    };
    let connect = || {
        let stream = TcpStream::connect(setup.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // Down, through the cache, which does not store it.
    let mut stream = connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut block = vec![0; BLOCK];
    let mut length = 0;
    loop {
        match stream.read(&mut block).unwrap() {
            0 => break,
            more => length += more,
        }
        check("down");
    }
    assert!(length > LARGE, "{length}");
    // Up, in chunks.
    let mut stream = connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [format!("{BLOCK:x}\r\n").as_bytes(), &block, b"\r\n"].concat();
    for _ in 0..LARGE / BLOCK {
        stream.write_all(&chunk).unwrap();
    }
    check("up");
    stream.write_all(b"0\r\n\r\n").unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    // Clients that do not read.
    let mut silent: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
    for stream in &mut silent {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nCache-Control: no-store\r\n\r\n")
            .unwrap();
    }
    thread::sleep(Duration::from_millis(500));
    check("50 clients that do not read");
}
