//! Probes of real servers: Mosquitto, nginx and others, alive, frozen, busy and dead. Probes over TLS and of RabbitMQ
//! are in `readers`.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod others;
mod redis;
mod refusals;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use lb_clients::health::{
    Outcome, Verdict,
    probe::{
        Prober,
        http::{Http, Json},
        mqtt::{Expect, Mqtt},
        tcp::Tcp,
    },
    runner::{FirstProbe, ProbeConfig, Report, Runner},
    state::{Health, State},
};
use lb_clients::peer::{Target, mqtt::Version};
use lb_model::{check::Check, component::Component};
use lb_tests::{
    Namespace,
    harness::{
        Harness,
        Requirement::{Program, Root},
    },
    server::{Mosquitto, Nginx},
    tests,
};
use tokio::sync::{Semaphore, mpsc};

const HTTP: u16 = 80;
const MQTT: u16 = 1883;
/// Timeout of probes of servers that answer.
const LONG: Duration = Duration::from_secs(10);
/// Timeout of probes of servers that do not answer.
const SHORT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    Harness::new(&[
        Root,
        Program("ip"),
        Program("nginx"),
        Program("mosquitto"),
        Program("mosquitto_pub"),
        Program("ss"),
    ])
    .tests(tests![
        a_frozen_broker_is_detected_though_tcp_connects,
        a_broker_that_requires_a_login_is_alive,
        a_web_server_is_checked_by_status_header_and_json,
        servers_of_another_protocol_are_named,
        without_a_route_nothing_is_known_of_an_address,
        a_broker_dies_and_returns,
        probes_leave_no_port_in_time_wait,
        others::a_reporter_is_probed_by_grpc,
        others::datagrams_are_answered_or_not,
        refusals::closed_ports_stay_down_though_the_host_seldom_refuses,
        others::a_program_probes_a_broker,
    ])
    .tests_with(
        &[Program("redis-server")],
        tests![
            redis::a_frozen_redis_is_detected_though_tcp_connects,
            redis::a_redis_with_a_password_is_probed_with_and_without_it,
        ],
    )
    .run()
}

/// Probes once.
fn ask(
    namespace: &Namespace,
    probe: Component,
    address: &str,
    port: u16,
    timeout: Duration,
) -> Outcome {
    let address = SocketAddr::new(address.parse().expect("an address"), port);
    let mut check = Check::new(probe);
    check.interval = timeout;
    check.timeout = Some(timeout);
    in_runtime(namespace, async move {
        let vip = "10.0.0.1:80/tcp".parse().expect("a VIP");
        let target = Target {
            address,
            mark: None,
        };
        Prober::new(&check, vip, address.ip().into())
            .run(&target)
            .await
    })
}

/// Runs `work` in a single-threaded runtime inside `namespace`, to which all its sockets belong.
fn in_runtime<T: Send>(namespace: &Namespace, work: impl Future<Output = T> + Send) -> T {
    namespace
        .enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts")
                .block_on(work)
        })
        .expect("the namespace can be entered")
}

#[track_caller]
fn assert_outcome(outcome: &Outcome, verdict: Verdict, says: &str) {
    assert_eq!(outcome.verdict, verdict, "{outcome:?}");
    assert!(outcome.reason.contains(says), "{outcome:?}, not {says:?}");
}

fn mqtt(version: Version, expect: Expect) -> Component {
    Component::new(
        "mqtt",
        &Mqtt {
            version,
            expect,
            ..Mqtt::default()
        },
    )
}

fn http(path: &str) -> Http {
    Http {
        path: path.to_owned(),
        ..Http::default()
    }
}

const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

fn a_frozen_broker_is_detected_though_tcp_connects() {
    let namespace = Namespace::new("broker").unwrap();
    let broker = Mosquitto::start(&namespace, MQTT).unwrap();
    let ask = |probe, address, timeout| ask(&namespace, probe, address, MQTT, timeout);
    for address in ADDRESSES {
        for version in VERSIONS {
            let outcome = ask(mqtt(version, Expect::Accepted), address, LONG);
            assert_outcome(&outcome, Verdict::Healthy, "accepted");
        }
    }
    broker.freeze().unwrap();
    assert_outcome(
        &ask(Component::new("tcp", &Tcp {}), "127.0.0.1", LONG),
        Verdict::Healthy,
        "connected",
    );
    for version in VERSIONS {
        let outcome = ask(mqtt(version, Expect::Any), "127.0.0.1", SHORT);
        assert_outcome(
            &outcome,
            Verdict::Unhealthy,
            "timed out after 500ms while waiting for CONNACK",
        );
    }
    broker.thaw().unwrap();
    let outcome = ask(mqtt(Version::V311, Expect::Any), "127.0.0.1", LONG);
    assert_outcome(&outcome, Verdict::Healthy, "accepted");
}

fn a_broker_that_requires_a_login_is_alive() {
    let namespace = Namespace::new("broker").unwrap();
    let _broker = Mosquitto::start_closed(&namespace, MQTT).unwrap();
    for version in VERSIONS {
        let any = ask(
            &namespace,
            mqtt(version, Expect::Any),
            "127.0.0.1",
            MQTT,
            LONG,
        );
        assert_outcome(&any, Verdict::Healthy, "refused: not authorized");
        let accepted = ask(
            &namespace,
            mqtt(version, Expect::Accepted),
            "127.0.0.1",
            MQTT,
            LONG,
        );
        assert_outcome(&accepted, Verdict::Unhealthy, "refused: not authorized");
    }
}

fn a_web_server_is_checked_by_status_header_and_json() {
    let namespace = Namespace::new("web").unwrap();
    let _nginx = Nginx::start(&namespace, HTTP).unwrap();
    let status = |equals: &str| Http {
        json: Some(Json {
            pointer: "/status".to_owned(),
            equals: equals.into(),
        }),
        ..http("/status")
    };
    let holding = |body: &str| Http {
        body: Some(body.to_owned()),
        ..http("/")
    };
    let busy_is_good = Http {
        statuses: "503".parse().unwrap(),
        ..http("/busy")
    };
    for address in ADDRESSES {
        for (spec, verdict, says) in [
            (http("/"), Verdict::Healthy, "answered 200 OK"),
            (holding("web "), Verdict::Healthy, "200 OK"),
            (
                holding("mail"),
                Verdict::Unhealthy,
                "does not hold \"mail\"",
            ),
            (status("UP"), Verdict::Healthy, "200 OK"),
            (
                status("DOWN"),
                Verdict::Unhealthy,
                "/status = \"UP\"; expected \"DOWN\"",
            ),
            (http("/busy"), Verdict::Unhealthy, "503 Service Unavailable"),
            (busy_is_good.clone(), Verdict::Healthy, "503"),
            (http("/none"), Verdict::Unhealthy, "404"),
            (
                http("/loop"),
                Verdict::Unhealthy,
                "/loop, which is not followed",
            ),
        ] {
            let outcome = ask(
                &namespace,
                Component::new("http", &spec),
                address,
                HTTP,
                LONG,
            );
            assert_outcome(&outcome, verdict, says);
        }
    }
}

fn servers_of_another_protocol_are_named() {
    let namespace = Namespace::new("mixed").unwrap();
    let _nginx = Nginx::start(&namespace, HTTP).unwrap();
    let _broker = Mosquitto::start(&namespace, MQTT).unwrap();
    for version in VERSIONS {
        let outcome = ask(
            &namespace,
            mqtt(version, Expect::Any),
            "127.0.0.1",
            HTTP,
            LONG,
        );
        assert_outcome(
            &outcome,
            Verdict::Unhealthy,
            "no CONNACK but something that begins with 0x48",
        );
    }
    let outcome = ask(
        &namespace,
        Component::new("http", &http("/")),
        "127.0.0.1",
        MQTT,
        LONG,
    );
    assert_outcome(&outcome, Verdict::Unhealthy, "connection while");
}

fn without_a_route_nothing_is_known_of_an_address() {
    let namespace = Namespace::new("alone").unwrap();
    for address in ["192.0.2.1", "2001:db8::1"] {
        let outcome = ask(
            &namespace,
            Component::new("tcp", &Tcp {}),
            address,
            HTTP,
            LONG,
        );
        assert_outcome(
            &outcome,
            Verdict::Inconclusive,
            "this host: finding a route: Network is unreachable",
        );
    }
    let refused = ask(
        &namespace,
        Component::new("tcp", &Tcp {}),
        "127.0.0.1",
        HTTP,
        LONG,
    );
    assert_outcome(&refused, Verdict::Unhealthy, "connection refused");
}

/// A port in TIME_WAIT is of no use for another connection to the same address for a minute.
fn probes_leave_no_port_in_time_wait() {
    let namespace = Namespace::new("ports").unwrap();
    let _nginx = Nginx::start(&namespace, HTTP).unwrap();
    let _broker = Mosquitto::start(&namespace, MQTT).unwrap();
    let body = Http {
        body: Some("ports ".to_owned()),
        ..http("/")
    };
    let ours = |port| {
        let line = format!("ss -Htan state time-wait dport = :{port}");
        namespace.sh(&line).unwrap().lines().count()
    };
    // Those who started the servers have connected as well.
    let before = [HTTP, MQTT].map(ours);
    for _ in 0..10 {
        for (probe, port) in [
            (Component::new("tcp", &Tcp {}), HTTP),
            (Component::new("tcp", &Tcp {}), MQTT),
            (Component::new("http", &http("/")), HTTP),
            (Component::new("http", &body), HTTP),
            (mqtt(Version::V311, Expect::Accepted), MQTT),
            (mqtt(Version::V5, Expect::Accepted), MQTT),
        ] {
            let outcome = ask(&namespace, probe, "127.0.0.1", port, LONG);
            assert_outcome(&outcome, Verdict::Healthy, "");
        }
    }
    assert_eq!([HTTP, MQTT].map(ours), before);
}

fn a_broker_dies_and_returns() {
    let namespace = Namespace::new("broker").unwrap();
    let broker = Mosquitto::start(&namespace, MQTT).unwrap();
    let (sender, mut reports) = mpsc::channel(16);
    let servers = namespace.clone();
    let changes = in_runtime(&namespace, async move {
        let mut check = Check::new(mqtt(Version::V5, Expect::Any));
        // Long enough that a live broker is not considered dead on a busy machine.
        check.interval = Duration::from_secs(1);
        check.fast_interval = Some(check.interval);
        check.timeout = Some(check.interval);
        let target = Target {
            address: SocketAddr::from(([127, 0, 0, 1], MQTT)),
            mark: None,
        };
        let _runner = Runner::start(
            "10.0.0.1:1883/tcp".parse().unwrap(),
            target.address.ip().into(),
            ProbeConfig { check, target },
            Health::new(Instant::now()),
            FirstProbe::Spread,
            Arc::new(Semaphore::new(8)),
            sender,
        );
        let mut changes = vec![next(&mut reports).await];
        broker.freeze().unwrap();
        changes.push(next(&mut reports).await);
        broker.thaw().unwrap();
        changes.push(next(&mut reports).await);
        drop(broker);
        changes.push(next(&mut reports).await);
        let _again = Mosquitto::start(&servers, MQTT).unwrap();
        changes.push(next(&mut reports).await);
        changes
    });
    let [up, down, ..] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!((up.0, down.0), (State::Up, State::Down));
    assert!(down.1.contains("waiting for CONNACK"), "{changes:?}");
    let states: Vec<State> = changes.iter().map(|(state, _)| *state).collect();
    assert_eq!(
        states,
        [State::Up, State::Down, State::Up, State::Down, State::Up]
    );
    assert_eq!(changes[3].1, "connection refused");
}

/// Waits for the next change of state and returns it with its reason.
async fn next(reports: &mut mpsc::Receiver<Report>) -> (State, String) {
    let change = async {
        loop {
            let report = reports.recv().await.expect("the runner runs");
            if let Some(change) = report.change {
                return (change.to, change.reason);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), change)
        .await
        .expect("a change comes")
}
