//! `lbctl trace`, `doctor` and `capture`.

use lb_proto::v1;

use crate::{
    agent::{Agent, Received},
    run::run,
};

const FLOW: &str = "tcp 198.51.100.7:40000 -> 10.0.0.1:80";

#[test]
fn a_trace_has_the_first_and_a_later_packet() {
    let agent = Agent::start();
    let json = run(&agent.endpoint, &["trace", FLOW, "-o", "json"]).json();
    assert_eq!(json["flow"], FLOW);
    let packets = &json["packets"];
    for (at, flags, real, by) in [
        (0, "syn", "10.1.0.2", "new_flow"),
        (1, "ack", "10.1.0.3", "previous"),
    ] {
        assert_eq!(packets[at]["flags"][0], flags, "{json:#}");
        assert_eq!(packets[at]["real"], real, "{json:#}");
        assert_eq!(packets[at]["chosen_by"], by, "{json:#}");
        assert_eq!(packets[at]["slot"]["previous"], "10.1.0.3", "{json:#}");
    }
    let sent: Vec<_> = agent
        .received()
        .into_iter()
        .map(|received| match received {
            Received::Trace(request) => (request.packet.len(), request.packet[47]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, [(54, 0x02), (54, 0x10)]);
    let text = run(&agent.endpoint, &["trace", FLOW]).stdout;
    for part in [
        "the first packet (syn)",
        "a later packet (ack)",
        "7 of 256, in its window",
        "new flows to 10.1.0.2, running ones to 10.1.0.3",
        "the slot's previous real: the flow ran before the slot changed",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn one_packet_of_a_trace_may_be_given() {
    let agent = Agent::start();
    let json = run(
        &agent.endpoint,
        &[
            "trace", FLOW, "--flags", "fin,ack", "--iface", "eth1", "-o", "json",
        ],
    )
    .json();
    assert_eq!(json["packets"].as_array().map(Vec::len), Some(1));
    let received = agent.received();
    let [Received::Trace(request)] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!((request.packet[47], &*request.interface), (0x11, "eth1"));
    let v6 = "udp [2001:db8::7]:40000 -> [2001:db8::1]:53";
    let json = run(&agent.endpoint, &["trace", v6, "-o", "json"]).json();
    assert_eq!(
        (&json["flow"], json["packets"].as_array().map(Vec::len)),
        (&v6.into(), Some(1))
    );
    let yaml = run(&agent.endpoint, &["trace", v6, "-o", "yaml"]).stdout;
    assert!(yaml.contains("chosen_by: previous"), "{yaml}");
}

#[test]
fn what_is_no_flow_is_refused_with_what_to_type() {
    let agent = Agent::start();
    for flow in [
        "tcp 10.0.0.1:80",
        "198.51.100.7:1 -> 10.0.0.1:80",
        "tcp 2001:db8::7 -> x",
    ] {
        let run = run(&agent.endpoint, &["trace", flow]);
        assert_eq!(run.status, Some(2), "{run:?}");
        assert!(
            run.stderr
                .contains("\"tcp 198.51.100.7:40000 -> 10.0.0.1:80\""),
            "{run:?}"
        );
    }
    let udp = run(
        &agent.endpoint,
        &[
            "trace",
            "udp 198.51.100.7:1 -> 10.0.0.1:53",
            "--flags",
            "syn",
        ],
    );
    assert_eq!(udp.status, Some(2), "{udp:?}");
    assert!(agent.received().is_empty());
}

#[test]
fn the_doctor_says_what_mends_it_and_fails() {
    let agent = Agent::start();
    let text = run(&agent.endpoint, &["doctor"]);
    assert_eq!(text.status, Some(1), "{text:?}");
    assert_eq!(
        text.stdout,
        "ok       clock: something\n\
         problem  offloads: eth0: LRO is on\n         mend: ethtool -K eth0 lro off\n"
    );
    assert!(text.stderr.contains("1 problem was found"), "{text:?}");
    let json = run(&agent.endpoint, &["doctor", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[1]["findings"][0]["mend"], "ethtool -K eth0 lro off");
}

#[test]
fn a_capture_is_written_as_it_was_asked_for() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packets.pcapng");
    let json = run(
        &agent.endpoint,
        &[
            "capture",
            "-o",
            "json",
            "-w",
            file.to_str().unwrap(),
            "--vip",
            "10.0.0.1:80/tcp",
            "--real",
            "10.1.0.2",
            "--reason",
            "no_real",
            "--reason",
            "forwarded_tx",
            "--count",
            "9",
            "--seconds",
            "7",
            "--rate",
            "100",
        ],
    )
    .json();
    assert_eq!(
        (&json["packets"], &json["lost"], &json["over_budget"]),
        (&1.into(), &3.into(), &4.into())
    );
    let received = agent.received();
    let [Received::Capture(request)] = &received[..] else {
        panic!("{received:?}")
    };
    let expected = v1::CaptureRequest {
        vip: Some(v1::VipId {
            address: "10.0.0.1".to_owned(),
            port: 80,
            protocol: v1::Protocol::Tcp.into(),
            ..v1::VipId::default()
        }),
        reals: vec!["10.1.0.2".to_owned()],
        reasons: vec!["no_real".to_owned(), "forwarded_tx".to_owned()],
        count: 9,
        duration: Some(prost_types::Duration {
            seconds: 7,
            nanos: 0,
        }),
        packets_per_second: 100,
    };
    assert_eq!(*request, expected);
    let written = std::fs::read(&file).unwrap();
    let comments = String::from_utf8_lossy(&written);
    for part in [
        "in: forwarded_tx (tx), real 10.1.0.2, chosen by ring",
        "out: forwarded_tx",
    ] {
        assert!(comments.contains(part), "{comments}");
    }
    // To standard output, what is said of the packets goes to standard error.
    let piped = crate::run::command(&agent.endpoint, &["capture", "-w", "-"])
        .output()
        .unwrap();
    assert!(piped.status.success());
    assert_eq!(piped.stdout[..4], written[..4]);
    assert_eq!(piped.stdout.len(), written.len());
    let said = String::from_utf8_lossy(&piped.stderr);
    assert!(said.contains("1 packet in -"), "{said}");
    assert!(said.contains("3 more found no room"), "{said}");
}

#[test]
fn a_wrong_capture_is_refused_and_writes_nothing() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("packets.pcapng");
    let file = file.to_str().unwrap();
    for (arguments, status, part) in [
        (vec!["--reason", "unknown"], 1, "give one of no_real"),
        (vec!["--vip", "10.0.0.1"], 2, "write a VIP as"),
        (vec!["--real", "10.0.0"], 2, "write a real as"),
        (vec!["--count", "0"], 2, "0"),
        (vec!["--seconds", "3601"], 2, "3601"),
        (vec!["--rate", "49"], 2, "49"),
    ] {
        let run = run(
            &agent.endpoint,
            &[&["capture", "-w", file][..], &arguments].concat(),
        );
        assert_eq!(run.status, Some(status), "{run:?}");
        assert!(run.stderr.contains(part), "{part}: {run:?}");
        assert!(!std::path::Path::new(file).exists(), "{arguments:?}");
    }
}
