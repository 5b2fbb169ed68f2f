//! `lbctl capture` writes packets as they come and as they leave, and tshark reads them.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use lb_tests::{
    Agent, AgentOptions,
    client::{Connections, http_load},
    wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, assert_no_failure, endless, serve};

/// A capture that runs.
struct Capture {
    child: Child,
    /// What it writes to standard error; open as long as it runs.
    _said: BufReader<ChildStderr>,
}

impl Capture {
    /// Starts it, and waits until packets are captured.
    fn start(agent: &Agent, words: &[&str]) -> Capture {
        let words = ["-o", "json", "capture"].iter().chain(words);
        let mut command = agent.lbctl_command(words).unwrap();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "capturing on eth0\n");
        Capture { child, _said: said }
    }

    /// Ends it as Ctrl-C does, if it has not ended by itself; returns what it says.
    fn end(self) -> Value {
        let id = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT);
        self.wait()
    }

    fn wait(self) -> Value {
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

/// What tshark prints of a file.
fn tshark(file: &Path, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(file)
        .args([
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
        ])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Comment, addresses and lengths of each packet.
const FIELDS: [&str; 12] = [
    "-T",
    "fields",
    "-E",
    "separator=|",
    "-e",
    "frame.comment",
    "-e",
    "ip.dst",
    "-e",
    "frame.len",
    "-e",
    "frame.cap_len",
];

fn fields(file: &Path) -> Vec<[String; 4]> {
    tshark(file, &FIELDS)
        .iter()
        .map(|line| {
            let parts: Vec<_> = line.split('|').map(str::to_owned).collect();
            parts.try_into().unwrap_or_else(|parts| panic!("{parts:?}"))
        })
        .collect()
}

/// Makes a request with a path of this many digits, on a connection of its own.
fn request(testbed: &Testbed, address: &str, digits: usize) {
    let line = format!(
        "exec 3<>/dev/tcp/{address}/80; printf 'GET /%0{digits}d HTTP/1.0\\r\\n\\r\\n' 7 >&3; cat <&3"
    );
    let mut command = testbed.client.command("bash");
    let output = command.args(["-c", &line]).output().unwrap();
    assert!(output.stdout.starts_with(b"HTTP/"), "{output:?}");
}

pub fn packets_are_written_before_and_after_with_reason_and_real() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("all.pcapng");
    let name = file.to_str().unwrap();
    let testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(&testbed, HTTP_V6, "--forward ipip", true, &[100]);
    let capture = Capture::start(&testbed.agent, &["-w", name, "--vip", HTTP_V4]);
    // One at a time.
    let second = testbed.agent.ctl("capture -w /dev/null").unwrap_err();
    assert!(
        format!("{second:#}").contains("a capture runs already"),
        "{second:#}"
    );
    request(&testbed, "192.0.2.10", 1_000);
    request(&testbed, "2001:db8::10", 10);
    std::thread::sleep(Duration::from_millis(200));
    let summary = capture.end();
    assert_eq!(
        (&summary["lost"], &summary["over_budget"]),
        (&0.into(), &0.into())
    );
    let packets = fields(&file);
    let count = summary["packets"].as_u64().unwrap() as usize;
    assert!(
        count >= 5,
        "SYN, ACK, request, acknowledgements, FIN: {packets:#?}"
    );
    assert_eq!(packets.len(), 2 * count, "{packets:#?}");
    for pair in packets.chunks(2) {
        let [
            [incoming, to, length, captured],
            [outgoing, outer, out_length, out_captured],
        ] = pair
        else {
            panic!("{pair:?}");
        };
        let about = incoming.strip_prefix("in: ").unwrap();
        assert_eq!(outgoing.strip_prefix("out: "), Some(about));
        assert!(
            about.starts_with("forwarded_tx (tx), VIP 192.0.2.10:80/tcp, real 10.10.30."),
            "{about}"
        );
        let real = about
            .split("real ")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        assert_eq!(to, "192.0.2.10");
        assert_eq!(
            *outer,
            format!("{real},192.0.2.10"),
            "the outer header, and the inner one"
        );
        assert_eq!(
            (length, out_length),
            (captured, out_captured),
            "nothing is cut"
        );
        let lengths = (
            length.parse::<u32>().unwrap(),
            out_length.parse::<u32>().unwrap(),
        );
        assert_eq!(lengths.0 + 20, lengths.1);
    }
    // The request is longer than what is kept of each packet in the kernel: its rest comes from the packet that left.
    let long = tshark(
        &file,
        &[
            "-Y",
            "frame.len > 1000",
            "-T",
            "fields",
            "-e",
            "tcp.payload",
        ],
    );
    assert_eq!(long.len(), 2, "{long:?}");
    // The shell sends the empty line by itself.
    let sent = hex(&format!("GET /{}7 HTTP/1.0\r\n", "0".repeat(999)));
    assert!(
        long.iter().all(|payload| payload.starts_with(&sent)),
        "{long:?}"
    );
    let wrong = tshark(
        &file,
        &["-Y", "ip.checksum.status == 0 || tcp.checksum.status == 0"],
    );
    assert_eq!(wrong, [] as [String; 0]);
    let infos = Command::new("capinfos").arg(&file).output().unwrap();
    let infos = String::from_utf8_lossy(&infos.stdout).into_owned();
    assert!(
        infos.contains("pcapng") && infos.contains("eth0"),
        "{infos}"
    );
}

pub fn filters_are_the_kernels_and_limits_end_a_capture() {
    const EMPTY: &str = "192.0.2.11:80/tcp";
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let testbed = Testbed::new(2, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    testbed.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::New, 4, Duration::from_millis(2)),
    );
    // Only one real's packets.
    let real = testbed.backends[1].address();
    let file = path("real");
    let name = file.to_str().unwrap();
    let words = ["-w", name, "--real", &real, "--count", "20"];
    let summary = Capture::start(&testbed.agent, &words).wait();
    assert_eq!(summary["packets"], 20, "the count ends it");
    let packets = fields(&file);
    assert_eq!(packets.len(), 40);
    let about = format!("real {real},");
    assert!(
        packets.iter().all(|packet| packet[0].contains(&about)),
        "{packets:#?}"
    );

    // Only what is dropped, which has nothing that left. The load's packets are not among them.
    let file = path("dropped");
    let name = file.to_str().unwrap();
    let words = ["-w", name, "--reason", "no_real", "--reason", "no_next_hop"];
    let capture = Capture::start(&testbed.agent, &words);
    let _ = testbed
        .client
        .command("timeout")
        .args(["0.5", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.11/80"])
        .output();
    let summary = wait_for("a drop", PATIENCE, || {
        let stats = testbed.stats(EMPTY)?;
        Ok((stats["dropped_packets"].as_u64() > Some(0)).then_some(()))
    })
    .map(|()| {
        std::thread::sleep(Duration::from_millis(200));
        capture.end()
    })
    .unwrap();
    let packets = fields(&file);
    assert!(!packets.is_empty());
    assert_eq!(summary["packets"].as_u64(), Some(packets.len() as u64));
    for packet in &packets {
        assert_eq!(packet[0], "in: no_real (drop), VIP 192.0.2.11:80/tcp");
        assert_eq!(packet[1], "192.0.2.11");
    }

    // More comes than may be captured: what is not is counted.
    let file = path("budget");
    let name = file.to_str().unwrap();
    let words = ["-w", name, "--rate", "50", "--seconds", "2"];
    let summary = Capture::start(&testbed.agent, &words).wait();
    let captured = summary["packets"].as_u64().unwrap();
    // One each 20 ms, and one more by each CPU that looked at the same moment.
    assert!((10..=300).contains(&captured), "{summary}");
    assert!(summary["over_budget"].as_u64() > Some(100), "{summary}");

    for (words, part) in [
        ("--reason dropped", "there is no such reason; give one of"),
        ("--real 10.10.30.250", "10.10.30.250"),
        ("--vip 192.0.2.77:80/tcp", "192.0.2.77"),
    ] {
        let error = testbed
            .agent
            .ctl(&format!("capture -w {name}.no {words}"))
            .unwrap_err();
        assert!(format!("{error:#}").contains(part), "{error:#}");
    }
    assert_no_failure(&load.stop().unwrap());
}

pub fn a_capture_costs_no_packet_and_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("packets");
    let name = file.to_str().unwrap();
    let testbed = Testbed::new(2, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    let load = http_load(
        &testbed.client,
        endless(HTTP_V4, Connections::New, 4, Duration::from_millis(1)),
    );
    let program = |agent: &Agent| {
        let shown = agent.namespace().sh("ip -details link show eth0").unwrap();
        let id = shown.split("prog/xdp id ").nth(1).unwrap();
        id.split_whitespace().next().unwrap().to_owned()
    };
    let usual = program(&testbed.agent);
    for round in 0..3 {
        let capture = Capture::start(&testbed.agent, &["-w", name]);
        assert_ne!(program(&testbed.agent), usual);
        load.wait_requests(50, PATIENCE).unwrap();
        if round == 1 {
            // A client that is killed says no goodbye.
            let mut child = capture.child;
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            assert!(capture.end()["packets"].as_u64() > Some(0));
        }
        // The usual program is back, in another copy, and the next capture can begin.
        wait_for("the end of the capture", PATIENCE, || {
            let output = testbed.agent.output();
            let ends = output.matches("capture has ended").count();
            Ok((ends == round + 1).then_some(()))
        })
        .unwrap();
    }
    // An agent that is told to end during a capture leaves the usual program, and one that is killed leaves it to its
    // successor.
    let mut testbed = testbed;
    for is_killed in [false, true] {
        let capture = Capture::start(&testbed.agent, &["-w", name]);
        let capturing = program(&testbed.agent);
        if is_killed {
            testbed.agent.kill().unwrap();
        } else {
            testbed.agent.stop().unwrap();
        }
        let output = capture.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(program(&testbed.agent) == capturing, is_killed);
        testbed.agent.run().unwrap();
        assert_ne!(program(&testbed.agent), capturing);
    }
    assert_no_failure(&load.stop().unwrap());
}
