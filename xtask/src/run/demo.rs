//! The laboratory on show: reals behind four VIPs, clients, and the agent between them.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use lb_tests::{
    Agent, AgentOptions, Host, Real, Site,
    client::{Connections, HttpPlan, Load, MqttPlan, http_load, mqtt_load},
    server::{Mosquitto, Nginx},
};

use super::{
    interrupt::Interrupt,
    report::{Client, Report},
    screen::Screen,
    stats::{Stats, Status},
};
use crate::programs::{self, Profile};

/// HTTP, both families.
const HTTP: [&str; 2] = ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"];
/// MQTT, both families; their flows are tracked, so that live flows are exact.
const MQTT: [&str; 2] = ["192.0.2.20:1883/tcp", "[2001:db8::20]:1883/tcp"];

/// Weights of the reals for HTTP; for MQTT all have the same.
const HTTP_WEIGHTS: [u16; 3] = [100, 200, 300];
const MQTT_WEIGHTS: [u16; 3] = [100, 100, 100];

/// Between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

/// A server, whichever it is; kept for its life and to see whether it still runs.
enum Server {
    Nginx(Nginx),
    Mosquitto(Mosquitto),
}

/// A real: its host, what makes it one, and its server. Fields go in this order.
struct Behind {
    server: Server,
    real: Real,
    host: Host,
}

/// A group of clients.
struct Group {
    name: &'static str,
    vip: &'static str,
    load: Load,
}

/// Builds everything, shows it and removes it.
pub fn run(time: Option<Duration>, report: Option<&Path>) -> anyhow::Result<()> {
    // What it has made goes with its values, after a failure, too.
    let outcome = show(time, report);
    println!("the laboratory is removed");
    outcome
}

fn show(time: Option<Duration>, report: Option<&Path>) -> anyhow::Result<()> {
    let interrupt = Interrupt::new()?;
    let folder = programs::build(Profile::Release)?;
    interrupt.check()?;
    // SAFETY: the only other thread waits for signals and reads no environment.
    unsafe { std::env::set_var("LB_BIN_DIR", &folder) };
    println!(
        "laboratory: a switch, one balancer, two clients, three reals for HTTP and three for MQTT"
    );
    let site = Site::new()?;
    let clients = [site.client()?, site.client()?];
    let http = behind(&site, &HTTP, HTTP_WEIGHTS.len(), &interrupt, |host| {
        Ok(Server::Nginx(Nginx::start(host, 80)?))
    })?;
    let mqtt = behind(&site, &MQTT, MQTT_WEIGHTS.len(), &interrupt, |host| {
        Ok(Server::Mosquitto(Mosquitto::start(host, 1883)?))
    })?;
    let mut agent = Agent::start(&site.balancer, AgentOptions::default())?;
    println!(
        "lb-agent: attached to eth0 of the balancer's namespace, API at {}",
        agent.endpoint()
    );
    println!("\n    export LB_ENDPOINT={}", agent.endpoint());
    configure(&agent, &HTTP, &http, &HTTP_WEIGHTS, "", &interrupt)?;
    configure(
        &agent,
        &MQTT,
        &mqtt,
        &MQTT_WEIGHTS,
        " --track all",
        &interrupt,
    )?;
    let status: Status = read(&agent, "status")?;
    let mode = status
        .interfaces
        .first()
        .context("the agent is attached to no interface")?
        .xdp_mode
        .clone();

    let groups = start_clients(&clients)?;
    let mut behind: Vec<Behind> = http.into_iter().chain(mqtt).collect();
    let (begin, outcome) = watch(&mut agent, &mut behind, &groups, time, &mode, &interrupt);
    let seconds = begin.elapsed().as_secs_f64();
    let records = groups
        .into_iter()
        .map(|group| {
            Ok(Client {
                name: group.name.to_owned(),
                vip: group.vip.to_owned(),
                record: group.load.stop()?,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let stats: Stats = read(&agent, "stats")?;
    let figures = Report {
        requests: records.iter().map(|client| client.record.requests).sum(),
        failed: records.iter().map(|client| client.record.failed).sum(),
        xdp_mode: mode,
        seconds,
        clients: records,
        vips: stats.vips,
    };
    if let Some(path) = report {
        figures.write(path)?;
    }
    outcome?;
    println!(
        "\n{} requests in {:.0} s, {} failed; XDP {}",
        figures.requests, figures.seconds, figures.failed, figures.xdp_mode
    );
    if figures.failed > 0 || figures.requests == 0 {
        let words: Vec<&str> = figures
            .clients
            .iter()
            .flat_map(|client| &client.record.errors)
            .map(String::as_str)
            .collect();
        bail!(
            "{} of {} requests failed: {}",
            figures.failed,
            figures.requests,
            words.join("; ")
        );
    }
    Ok(())
}

fn behind(
    site: &Site,
    vips: &[&str],
    count: usize,
    interrupt: &Interrupt,
    serve: impl Fn(&Host) -> anyhow::Result<Server>,
) -> anyhow::Result<Vec<Behind>> {
    (0..count)
        .map(|_| {
            interrupt.check()?;
            let host = site.real()?;
            let server = serve(&host)?;
            let real = Real::start(&host, "eth0", vips)?;
            Ok(Behind { server, real, host })
        })
        .collect()
}

/// Adds the VIPs and their reals, and shows the commands.
fn configure(
    agent: &Agent,
    vips: &[&str],
    behind: &[Behind],
    weights: &[u16],
    options: &str,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    for vip in vips {
        interrupt.check()?;
        lbctl(agent, &format!("add-vip {vip} --forward ipip{options}"))?;
        let target = target(vip)?;
        for (real, weight) in behind.iter().zip(weights) {
            lbctl(
                agent,
                &format!(
                    "add-real {vip} {} --weight {weight}",
                    real.host.address_like(target.ip())
                ),
            )?;
        }
    }
    Ok(())
}

fn lbctl(agent: &Agent, line: &str) -> anyhow::Result<()> {
    println!("    lbctl {line}");
    agent.ctl(line)?;
    Ok(())
}

fn start_clients([first, second]: &[Host; 2]) -> anyhow::Result<Vec<Group>> {
    let http = |name, client: &Host, vip, connections, workers, pause| {
        let plan = HttpPlan {
            target: target(vip)?,
            workers,
            connections,
            pause: Duration::from_millis(pause),
            requests: None,
        };
        anyhow::Ok(Group {
            name,
            vip,
            load: http_load(client, plan),
        })
    };
    let mqtt = |client: &Host, vip| {
        let plan = MqttPlan {
            target: target(vip)?,
            clients: 30,
            messages: Some(200),
            payload: 64,
            pause: Duration::from_millis(50),
        };
        anyhow::Ok(Group {
            name: "MQTT publishing, QoS 1",
            vip,
            load: mqtt_load(client, plan),
        })
    };
    Ok(vec![
        http(
            "HTTP on kept connections",
            first,
            HTTP[0],
            Connections::Kept,
            12,
            10,
        )?,
        http(
            "HTTP on new connections",
            first,
            HTTP[0],
            Connections::New,
            4,
            10,
        )?,
        http(
            "HTTP on kept connections",
            second,
            HTTP[1],
            Connections::Kept,
            12,
            10,
        )?,
        http(
            "HTTP on new connections",
            second,
            HTTP[1],
            Connections::New,
            4,
            10,
        )?,
        mqtt(first, MQTT[0])?,
        mqtt(second, MQTT[1])?,
    ])
}

/// Shows the figures until the time is over, the wish to end comes, or something is no longer there.
fn watch(
    agent: &mut Agent,
    behind: &mut [Behind],
    groups: &[Group],
    time: Option<Duration>,
    mode: &str,
    interrupt: &Interrupt,
) -> (Instant, anyhow::Result<()>) {
    let begin = Instant::now();
    let end = time.map(|time| begin + time);
    let mut pictures = || -> anyhow::Result<()> {
        let mut screen = Screen::new(format!(
            "lb-agent on eth0, XDP {mode}; LB_ENDPOINT={}",
            agent.endpoint()
        ));
        screen.open()?;
        let mut next = begin;
        loop {
            agent.check()?;
            for real in &mut *behind {
                real.check()?;
            }
            screen.show(&read(agent, "stats")?, &records(groups))?;
            next += REFRESH;
            let until = end.map_or(next, |end| next.min(end));
            if interrupt.wait_until(until) || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
        }
    };
    let outcome = pictures();
    (begin, outcome)
}

fn records(groups: &[Group]) -> Vec<Client> {
    groups
        .iter()
        .map(|group| Client {
            name: group.name.to_owned(),
            vip: group.vip.to_owned(),
            record: group.load.report(),
        })
        .collect()
}

impl Behind {
    fn check(&mut self) -> anyhow::Result<()> {
        self.real.check()?;
        match &mut self.server {
            Server::Nginx(nginx) => nginx.check(),
            Server::Mosquitto(mosquitto) => mosquitto.check(),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(agent: &Agent, verb: &str) -> anyhow::Result<T> {
    serde_json::from_value(agent.ctl_json(verb)?)
        .with_context(|| format!("reading what `lbctl -o json {verb}` prints"))
}

/// The address and port of a VIP's name.
fn target(vip: &str) -> anyhow::Result<SocketAddr> {
    let address = vip.split('/').next().unwrap_or(vip);
    address
        .parse()
        .with_context(|| format!("{vip} is no name of a VIP"))
}
