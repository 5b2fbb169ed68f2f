//! Probes by gRPC of the project's own reporter, by datagrams of an echo server, and by a program that talks to a broker.

use lb_clients::health::probe::{
    exec::Exec,
    grpc::Grpc,
    udp::{Octets, Udp},
};
use lb_tests::{binary, server::UdpEcho};

use super::*;

const PORT: u16 = 7_946;

pub fn a_reporter_is_probed_by_grpc() {
    let namespace = Namespace::new("reporter").unwrap();
    let listen = format!("http://127.0.0.1:{PORT}");
    let mut reporter = namespace
        .start(
            "lb-agent report",
            binary("lb-agent").unwrap(),
            ["report", "--listen", &listen],
        )
        .unwrap();
    reporter
        .wait_line("lb-agent report", "ready", Duration::from_secs(60))
        .unwrap();
    let check = |service: &str| {
        let probe = Component::new(
            "grpc",
            &Grpc {
                service: service.to_owned(),
                tls: None,
            },
        );
        ask(&namespace, probe, "127.0.0.1", PORT, LONG)
    };
    assert_outcome(&check(""), Verdict::Healthy, "SERVING");
    assert_outcome(&check("no.such"), Verdict::Unhealthy, "no.such");
    reporter.stop().unwrap();
    assert_outcome(&check(""), Verdict::Unhealthy, "connection refused");
}

pub fn datagrams_are_answered_or_not() {
    let namespace = Namespace::new("echo").unwrap();
    let _echo = UdpEcho::start(&namespace, ([127, 0, 0, 1], PORT).into()).unwrap();
    let send = |expect: &str, silence_is_alive, port| {
        let probe = Component::new(
            "udp",
            &Udp {
                payload: Octets(b"ping".to_vec()),
                expect: Octets(expect.as_bytes().to_vec()),
                silence_is_alive,
            },
        );
        ask(&namespace, probe, "127.0.0.1", port, LONG)
    };
    // The answer consists of the server's name, the client's address and the payload.
    assert_outcome(&send("", false, PORT), Verdict::Healthy, "answered");
    assert_outcome(&send(" ping", false, PORT), Verdict::Healthy, "answered");
    let other = send("pong", false, PORT);
    assert_outcome(&other, Verdict::Unhealthy, "does not hold");
    for silence_is_alive in [false, true] {
        let closed = send("", silence_is_alive, PORT + 1);
        assert_outcome(&closed, Verdict::Unhealthy, "connection refused");
    }
}

pub fn a_program_probes_a_broker() {
    let namespace = Namespace::new("broker").unwrap();
    let broker = Mosquitto::start(&namespace, MQTT).unwrap();
    let publish = |timeout| {
        let words = "/usr/bin/mosquitto_pub -h 127.0.0.1 -t probe -m hello -q 1";
        let probe = Component::new(
            "exec",
            &Exec {
                command: words.split(' ').map(str::to_owned).collect(),
            },
        );
        ask(&namespace, probe, "127.0.0.1", MQTT, timeout)
    };
    assert_outcome(&publish(LONG), Verdict::Healthy, "exit status 0");
    broker.freeze().unwrap();
    assert_outcome(&publish(SHORT), Verdict::Unhealthy, "timed out");
    drop(broker);
    assert_outcome(&publish(LONG), Verdict::Unhealthy, "exit status 1");
}
