//! Checks `/metrics` of a running agent against the tools of Prometheus, the dashboard, the alert rules and the limits.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use lb_clients::load::exposition::{self, Series};
use lb_tests::{
    Agent, AgentOptions, Namespace, Network,
    client::{Connections, http_load},
    wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, address_of, endless};

/// The address of metrics, in the agent's own namespace.
const ADDRESS: &str = "127.0.0.1:9464";
/// The port of each real's load.
const LOAD_PORT: u16 = 8_081;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

fn monitoring(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/monitoring")
        .join(file)
}

/// Returns the head and the body of an answer to `GET /metrics`.
fn scrape(namespace: &Namespace, accept: &str) -> anyhow::Result<(String, String)> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect(ADDRESS).context("connecting to the metrics")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {ADDRESS}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
        Ok((head.to_owned(), body.to_owned()))
    })?
}

/// Returns the samples for clients that accept any format.
fn text(namespace: &Namespace) -> anyhow::Result<String> {
    Ok(scrape(namespace, "*/*")?.1)
}

fn read(text: &str) -> Vec<Series<'_>> {
    exposition::read(text, |_| true).unwrap().series
}

fn label<'a>(series: &'a Series<'_>, name: &str) -> Option<&'a str> {
    let label = series.labels.iter().find(|(label, _)| *label == name)?;
    Some(&label.1)
}

/// Runs `promtool` with this input. Fails with its output if its exit status is a failure.
fn promtool(arguments: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool of the package prometheus is needed; `cargo xtask setup` installs it")?;
    let mut stdin = child.stdin.take().context("a pipe to promtool")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() {
        bail!(
            "promtool {} ended with {}: {said}",
            arguments.join(" "),
            output.status
        );
    }
    Ok(())
}

/// A server that reports a real's load over HTTP, as JSON.
struct LoadServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LoadServer {
    fn start(namespace: &Namespace) -> Self {
        let listener = namespace
            .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, LOAD_PORT)))
            .unwrap()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A reader that closed its connection sends the request again.
                    Ok((stream, _)) => drop(answer(stream)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(10));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        };
        LoadServer {
            stop,
            thread: Some(thread::spawn(serve)),
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut request = [0; 4_096];
    let _ = stream.read(&mut request)?;
    let body = "{\"used\": 0.6, \"open\": 40}";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl Drop for LoadServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns the names of the agent's metrics in a text, such as a query.
fn names(text: &str) -> BTreeSet<&str> {
    let other = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    text.split(other)
        .filter(|word| word.starts_with("lb_"))
        .collect()
}

/// Returns the expressions of alert rules, also those that are folded over several lines.
fn expressions(rules: &str) -> Vec<String> {
    let of = |rule: &str| {
        let (expression, _) = rule.split_once("\n        for: ").unwrap_or((rule, ""));
        let end = expression.find("\n        labels:");
        expression[..end.unwrap_or(expression.len())].to_owned()
    };
    rules.split("expr: ").skip(1).map(of).collect()
}

/// Collects the values of all fields `expr`, `query` and `definition` of a dashboard.
fn queries(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if ["expr", "query", "definition"].contains(&name.as_str()) => {
                        found.push(text.to_owned());
                    }
                    _ => queries(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| queries(value, found));
        }
        _ => {}
    }
}

pub fn prometheus_the_dashboard_and_the_alerts_find_every_metric() {
    let options = AgentOptions {
        arguments: vec!["--metrics".to_owned(), ADDRESS.to_owned()],
        ..AgentOptions::default()
    };
    let testbed = Testbed::new(2, &[HTTP_V4], options).unwrap();
    let _loads: Vec<_> = testbed
        .backends
        .iter()
        .map(|real| LoadServer::start(&real.host))
        .collect();
    let source = format!(
        "http-json port={LOAD_PORT} path=/ interval=1s utilisation=/used connections=/open"
    );
    let check = "http fast_interval=100ms interval=5s timeout=5s";
    let words = ["add-vip", HTTP_V4, "--check", check, "--load", &source];
    testbed.agent.lbctl(words).unwrap();
    for real in &testbed.backends {
        let real = address_of(real, false);
        testbed
            .agent
            .ctl(&format!("add-real {HTTP_V4} {real}"))
            .unwrap();
    }
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::New, 2, Duration::from_millis(20)),
    );

    // This value is the last to become known: it needs traffic and readings of some periods.
    let balancer = &testbed.network.balancer;
    wait_for("a capacity to be known", PATIENCE, || {
        Ok(text(balancer)?
            .contains("\nlb_real_capacity{")
            .then_some(()))
    })
    .unwrap();
    let (head, classic) = scrape(balancer, "*/*").unwrap();
    assert!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    promtool(&["check", "metrics"], &classic).unwrap();

    let (head, open_metrics) = scrape(balancer, OPEN_METRICS).unwrap();
    assert!(
        head.to_lowercase()
            .contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    for line in [
        "# TYPE lb_vip_bytes counter",
        "# UNIT lb_vip_bytes bytes",
        "# TYPE lb_build info",
        "# EOF",
    ] {
        assert!(open_metrics.lines().any(|other| other == line), "{line}");
    }
    assert!(open_metrics.ends_with("# EOF\n"));

    let series = read(&classic);
    let served: BTreeSet<&str> = series.iter().map(|series| series.name).collect();
    let dashboard = fs::read_to_string(monitoring("dashboard.json")).unwrap();
    let mut texts = Vec::new();
    queries(&serde_json::from_str(&dashboard).unwrap(), &mut texts);
    let alerts = fs::read_to_string(monitoring("alerts.yml")).unwrap();
    texts.extend(expressions(&alerts));
    // Those of other programs are in their reference pages, which tests compare with what is served.
    let pages = ["pools.md", "proxy.md"].map(|page| {
        let path = monitoring("../reference").join(page);
        fs::read_to_string(path).unwrap()
    });
    let is_in_a_page = |name: &str| {
        let row = format!("| `{name}` |");
        pages.iter().any(|page| page.contains(&row))
    };
    let mut used = BTreeSet::new();
    for query in &texts {
        for name in names(query) {
            let is_known = served.contains(name) || is_in_a_page(name);
            assert!(is_known, "{query}: {name} is not served");
            used.insert(name);
        }
    }
    assert!(used.len() > 40, "{used:?}");

    // The clients' traffic is counted, and a deleted real has no series.
    let value = |name: &str| -> f64 {
        let of = series.iter().filter(|series| series.name == name);
        of.map(|series| series.value).sum()
    };
    assert!(value("lb_vip_packets_total") > 100.0, "{classic}");
    assert!(value("lb_vip_flows_opened_total") > 10.0, "{classic}");
    assert_eq!(value("lb_interface_attached"), 1.0, "{classic}");
    assert_eq!(value("lb_interface_native"), 1.0, "{classic}");
    let deleted = address_of(&testbed.backends[0], false);
    let is_of = |series: &&Series<'_>| label(series, "real") == Some(&deleted);
    assert!(series.iter().filter(is_of).count() > 15, "{classic}");
    testbed
        .agent
        .ctl(&format!("del-real {HTTP_V4} {deleted}"))
        .unwrap();
    let after = text(balancer).unwrap();
    assert_eq!(read(&after).iter().filter(is_of).count(), 0, "{after}");
    drop(load.stop());

    // A removed interface is reported.
    balancer.sh("ip link delete eth0").unwrap();
    let gone = "lb_interface_attached{interface=\"eth0\"} 0";
    wait_for("the interface to be reported as gone", PATIENCE, || {
        Ok(text(balancer)?.contains(gone).then_some(()))
    })
    .unwrap();
}

pub fn promtool_takes_the_alert_rules() {
    let rules = monitoring("alerts.yml").display().to_string();
    promtool(&["check", "rules", &rules], "").unwrap();
    let tests = monitoring("alerts.test.yml").display().to_string();
    promtool(&["test", "rules", &tests], "").unwrap();
    // Each alert has its section in the documentation.
    let page = fs::read_to_string(monitoring("../monitoring.md")).unwrap();
    let text = fs::read_to_string(&rules).unwrap();
    let mut alerts = 0;
    for line in text.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
            alerts += 1;
        }
    }
    assert!(alerts > 15, "{alerts} alerts");
}

pub fn a_thousand_reals_are_scraped_within_the_limits() {
    const REALS: usize = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let mut config = format!("metrics = \"{ADDRESS}\"\n");
    // The VIPs are steered, so that reals have all the series that need no reader.
    for (vip, prefix) in [(HTTP_V4, "10.77"), (HTTP_V6, "10.78")] {
        config += &format!("[[vip]]\naddress = \"{vip}\"\nsteering = {{}}\n");
        for real in 0..REALS / 2 {
            let address = format!("{prefix}.{}.{}", real / 250, 1 + real % 250);
            config += &format!("[[vip.real]]\naddress = \"{address}\"\n");
        }
    }
    fs::write(&file, config).unwrap();
    let network = Network::new().unwrap();
    let options = AgentOptions {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..AgentOptions::default()
    };
    let agent = Agent::start(&network.balancer, options).unwrap();
    wait_for("all reals to be steered", PATIENCE, || {
        let text = text(&network.balancer)?;
        Ok((text.matches("\nlb_real_limited_by{").count() == REALS).then_some(()))
    })
    .unwrap();

    // The scrapes are further apart than the age of an observation, so that each scans the flow table.
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            thread::sleep(Duration::from_millis(1_200));
            let start = Instant::now();
            text(&network.balancer).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    thread::sleep(Duration::from_millis(1_200));
    let body = text(&network.balancer).unwrap();
    let series = read(&body);
    let mut per_real: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut per_vip: BTreeMap<&str, usize> = BTreeMap::new();
    for series in &series {
        match (label(series, "vip"), label(series, "real")) {
            (Some(vip), Some(real)) => *per_real.entry((vip, real)).or_default() += 1,
            (Some(vip), None) => *per_vip.entry(vip).or_default() += 1,
            (None, real) => assert_eq!(real, None, "{}", series.name),
        }
    }
    assert_eq!((per_real.len(), per_vip.len()), (REALS, 2));
    let most = per_real.values().max().unwrap();
    assert!(*most <= 25, "{most} series of one real");
    assert!(per_vip.values().all(|count| *count <= 40), "{per_vip:?}");
    promtool(&["check", "metrics"], &body).unwrap();
    let owner = series
        .iter()
        .find(|series| series.name == "lb_scrape_duration_seconds");
    println!(
        "{REALS} reals: {} series, {} bytes, {:?} a scrape (median of {}), of that {:.1} ms by the owner",
        series.len(),
        body.len(),
        times[times.len() / 2],
        times.len(),
        owner.unwrap().value * 1e3
    );
    drop(agent);
}

pub fn nothing_is_served_unless_asked_for() {
    let network = Network::new().unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let refused = network
        .balancer
        .enter(|| TcpStream::connect(address))
        .unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert!(!agent.output().contains("/metrics"), "{}", agent.output());
}
