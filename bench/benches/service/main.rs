//! A controller of many load balancers, whose nodes are simulated: `cargo xtask bench service`. `docs/performance.md` explains the
//! figures.

mod simulated;

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Parser;
use lb_bench::{
    process::{processor_time, resident},
    statistics::{median, quantile},
};
use lb_model::project::NODE_HEALTH_PORT;
use lb_tests::{Controller, Namespace, client, wait_for};
use serde_json::{Value, json};

use crate::simulated::Simulated;

/// Where hosts connect, and where the controller serves HTTP, in its network namespace.
const HOSTS: &str = "127.0.0.1:7443";
const HTTP: &str = "127.0.0.1:8080";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(60);
/// Callers that create at the same time.
const CALLERS: usize = 8;
/// How long the idle controller is watched.
const WATCH: Duration = Duration::from_secs(30);

/// Measures a controller with many projects and load balancers. Nodes are entries of a map of a host that has joined; each
/// answers its check from this program.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench service",
    bin_name = "cargo xtask bench service",
    version
)]
struct Arguments {
    /// Projects.
    #[arg(long, default_value_t = 1_000)]
    projects: usize,

    /// Load balancers of each project.
    #[arg(long, default_value_t = 10)]
    balancers: usize,

    /// Nodes of each load balancer.
    #[arg(long, default_value_t = 2)]
    nodes: usize,

    /// Changes of one load balancer that are timed.
    #[arg(long, default_value_t = 30)]
    changes: usize,

    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The controller under test.
struct Site {
    namespace: Namespace,
    controller: Controller,
    driver: Arc<Simulated>,
}

impl Site {
    /// Starts a controller, and the host that joins it.
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let namespace = Namespace::new("bench-service")?;
        namespace.sh("ip link set lo up")?;
        // All addresses of nodes are here.
        namespace.sh("ip route add local 10.64.0.0/12 dev lo")?;
        let file = folder.join("controller.toml");
        fs::write(
            &file,
            format!(
                "http = \"{HTTP}\"\n[hosts]\nlisten = \"{HOSTS}\"\n[nodes]\nbridge = \"br0\"\n\
                 range = \"10.64.0.1-10.79.255.254/12\"\neach = 2\ncpu = 0.1\nmemory = \"16MiB\"\n\
                 placement = {{ hosts = [\"simulated\"], stand_in = \"0s\" }}\n"
            ),
        )?;
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start(Some(&namespace), "bench-service", &options)?;
        let driver = Arc::new(Simulated::new());
        let (host, token) = (folder.join("host"), controller.ctl("host token")?);
        let own = (namespace.clone(), Arc::clone(&driver));
        thread::spawn(move || {
            let (namespace, driver) = own;
            let served = namespace.block_on(async {
                tokio::try_join!(
                    simulated::answer(NODE_HEALTH_PORT),
                    simulated::serve(&host, HOSTS, token.trim(), driver)
                )
            });
            println!("the simulated host has ended: {served:?}");
        });
        let site = Site {
            namespace,
            controller,
            driver,
        };
        wait_for("the host", PATIENCE, || {
            Ok(site
                .controller
                .ctl("host list")?
                .contains("up")
                .then_some(()))
        })?;
        Ok(site)
    }

    /// Makes a request of the controller.
    fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, text) = self.namespace.enter(|| {
            let address: SocketAddr = HTTP.parse()?;
            client::exchange(address, method, path, &body, REQUEST)
        })??;
        ensure!(status / 100 == 2, "{method} {path}: {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// How many load balancers are as they are wanted.
    fn complete(&self) -> anyhow::Result<usize> {
        let (status, text) = self
            .namespace
            .enter(|| client::exchange(HTTP.parse()?, "GET", "/metrics", "", REQUEST))??;
        ensure!(status == 200, "/metrics: {status}");
        let line = text
            .lines()
            .find(|line| {
                line.starts_with("lb_controller_balancers{") && line.contains("\"serving\"")
            })
            .context("no metric of load balancers")?;
        let number = line.rsplit(' ').next().unwrap_or_default();
        Ok(number.parse::<f64>()? as usize)
    }

    fn wait_complete(&self, expected: usize) -> anyhow::Result<()> {
        wait_for("all load balancers to be complete", PATIENCE, || {
            let complete = self.complete()?;
            if complete == expected {
                return Ok(Some(()));
            }
            thread::sleep(Duration::from_millis(200));
            bail!(
                "{complete} of {expected}, {} nodes run",
                self.driver.running()
            )
        })
    }
}

/// Two servers, others for each number.
fn backends(number: usize) -> Value {
    let (third, fourth) = (number / 100 % 100, number % 100);
    json!([
        { "address": "10.0.0.11" },
        { "address": format!("10.1.{third}.{fourth}") },
    ])
}

/// Creates everything, by several callers; returns the seconds that each order took.
fn create(site: &Site, arguments: &Arguments) -> anyhow::Result<Vec<f64>> {
    let work = |caller: usize| -> anyhow::Result<Vec<f64>> {
        let mut taken = Vec::new();
        let mut order = |path: &str, body: &Value| -> anyhow::Result<()> {
            let begin = Instant::now();
            site.ask("POST", path, body)?;
            taken.push(begin.elapsed().as_secs_f64());
            Ok(())
        };
        for project in (caller..arguments.projects).step_by(CALLERS) {
            let quota = json!({
                "balancers": arguments.balancers,
                "nodes": arguments.balancers * arguments.nodes,
            });
            let name = format!("project-{project}");
            let settings = json!({ "quota": quota });
            order(
                "/v1/projects",
                &json!({ "name": name, "settings": settings }),
            )?;
            for balancer in 0..arguments.balancers {
                let settings = json!({
                    "nodes": arguments.nodes,
                    "backends": backends(balancer),
                });
                let body = json!({ "name": format!("web-{balancer}"), "settings": settings });
                order(&format!("/v1/projects/{name}/balancers"), &body)?;
            }
        }
        Ok(taken)
    };
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| scope.spawn(move || work(caller)))
            .collect();
        let mut all = Vec::new();
        for caller in callers {
            let taken = caller.join();
            all.extend(taken.map_err(|_| anyhow!("a caller has panicked"))??);
        }
        Ok(all)
    })
}

/// Changes the backends of one load balancer, and returns the seconds until all its nodes follow.
fn change(site: &Site, number: usize, arguments: &Arguments) -> anyhow::Result<f64> {
    let project = number * 37 % arguments.projects;
    let path = format!(
        "/v1/projects/project-{project}/balancers/web-{}",
        number % arguments.balancers
    );
    let body = json!({ "backends": backends(1_000 + number) });
    let begin = Instant::now();
    site.ask("PATCH", &path, &body)?;
    loop {
        let seen = site.ask("GET", &path, &Value::Null)?;
        let is_done = seen["observed_generation"] == seen["generation"];
        if is_done {
            return Ok(begin.elapsed().as_secs_f64());
        }
        ensure!(begin.elapsed() < REQUEST, "{path} is not followed: {seen}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs benchmarks, too; there is nothing to test.
        println!("nothing was measured; run `cargo xtask bench service`");
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let mut site = Site::start(folder.path())?;
    let total = arguments.projects * arguments.balancers;
    let begin = Instant::now();
    let orders = create(&site, &arguments)?;
    let created = begin.elapsed().as_secs_f64();
    println!(
        "{} orders by {CALLERS} callers took {created:.1} s, one {:.1} ms (median), {:.1} ms (99 %)",
        orders.len(),
        median(&orders) * 1e3,
        quantile(&orders, 0.99) * 1e3
    );
    site.wait_complete(total)?;
    println!(
        "{total} load balancers with {} nodes were complete {:.1} s after the first order",
        site.driver.running(),
        begin.elapsed().as_secs_f64()
    );
    let pid = site.controller.process_mut()?.id();
    let (before, watched) = (processor_time(pid)?, Instant::now());
    thread::sleep(WATCH);
    let used = (processor_time(pid)? - before) / watched.elapsed().as_secs_f64() * 100.0;
    let changes: Vec<f64> = (0..arguments.changes)
        .map(|number| change(&site, number, &arguments))
        .collect::<anyhow::Result<_>>()?;
    println!(
        "a change of one was followed by its nodes after {:.1} ms (median), {:.1} ms (90 %)",
        median(&changes) * 1e3,
        quantile(&changes, 0.9) * 1e3
    );
    println!(
        "while nothing happens: {used:.0} % of a core, {} MiB",
        resident(pid)? / 1_024
    );
    site.controller.process_mut()?.stop()?;
    let begin = Instant::now();
    site.controller.run()?;
    let ready = begin.elapsed().as_secs_f64();
    site.wait_complete(total)?;
    println!(
        "after a restart it was ready after {ready:.1} s, and had seen all nodes serve after {:.1} s",
        begin.elapsed().as_secs_f64()
    );
    thread::sleep(WATCH);
    let pid = site.controller.process_mut()?.id();
    println!("{} MiB some time later", resident(pid)? / 1_024);
    Ok(())
}
