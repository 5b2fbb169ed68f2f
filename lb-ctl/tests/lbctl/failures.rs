//! Exit statuses and error messages.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    process::Stdio,
};

use crate::{
    agent::Agent,
    run::{command, run, words},
};

#[test]
fn refusals_are_told_with_the_field_and_what_to_do() {
    let agent = Agent::start();
    for (arguments, text) in [
        (
            "add-vip 224.0.0.1:80/tcp",
            "lbctl: cannot add VIP 224.0.0.1:80/tcp: 224.0.0.1 is not a unicast address\n  \
             field id.address: 224.0.0.1 is not a unicast address\n",
        ),
        (
            "add-real 10.0.0.1:80/tcp 10.1.0.2 --weight 65536",
            "lbctl: cannot add real 10.1.0.2 of VIP 10.0.0.1:80/tcp: a weight is 0 to 65535\n  \
             field spec.weight: a weight is 0 to 65535\n",
        ),
        (
            "drain 10.0.0.1:404/tcp 10.1.0.2",
            "lbctl: cannot drain real 10.1.0.2 of VIP 10.0.0.1:404/tcp: there is no such VIP\n  \
             lb.v1.Vip 10.0.0.1:404/tcp\n  `lbctl list` shows what there is\n",
        ),
        (
            "add-vip 10.0.0.1:409/tcp",
            "lbctl: cannot add VIP 10.0.0.1:409/tcp: there is one\n  lb.v1.Vip 10.0.0.1:409/tcp\n  \
             `lbctl set-vip` and `lbctl set-real` change what there is\n",
        ),
        (
            "add-vip 10.0.0.1:429/tcp",
            "lbctl: cannot add VIP 10.0.0.1:429/tcp: the table of services is full\n  \
             services: 4095 of 4095 in use\n  `lbctl status` shows how full the tables are\n",
        ),
        (
            "simulate --packet 0011",
            "lbctl: cannot simulate the packet: too short\n  field packet: 14 to 4000 bytes\n",
        ),
    ] {
        let run = run(&agent.endpoint, &words(arguments));
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(1), ""),
            "{arguments}: {run:?}"
        );
        assert_eq!(run.stderr, text, "{arguments}");
    }
}

#[test]
fn wrong_usage_is_2_and_asks_nothing() {
    let agent = Agent::start();
    for arguments in [
        "",
        "frobnicate",
        "add-vip 10.0.0.1",
        "add-vip 10.0.0.1:80/tcp --window 90",
        "add-real 10.0.0.1:80/tcp 10.1.0",
        "set-vip 10.0.0.1:80/tcp",
        "simulate --packet 0g",
        "list -o xml",
        "--endpoint ftp://host list",
    ] {
        let run = run(&agent.endpoint, &words(arguments));
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(2), ""),
            "{arguments}: {run:?}"
        );
        assert!(!run.stderr.is_empty());
    }
    for verb in ["add-real", "set-real"] {
        let line = format!("{verb} 10.0.0.1:80/tcp 10.1.0.2 --weight -1");
        let run = run(&agent.endpoint, &words(&line));
        assert_eq!(run.status, Some(2), "{run:?}");
        for part in ["'-1'", "--weight", "0 to 65535"] {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
    }
    assert_eq!(agent.received(), []);
}

#[test]
fn no_agent_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // This socket has no listener any more.
    drop(std::os::unix::net::UnixListener::bind(path("dead")).unwrap());
    symlink("loop", path("loop")).unwrap();
    let absent = path("absent");
    for (endpoint, parts) in [
        (
            format!("unix:{absent}"),
            vec![
                absent.as_str(),
                "there is no such socket",
                "lb-agent run",
                "LB_ENDPOINT",
            ],
        ),
        (
            format!("unix:{}", path("dead")),
            vec!["Connection refused", "no agent listens on it", "--endpoint"],
        ),
        (
            format!("unix:{}", path("loop")),
            vec!["cannot reach the agent at unix:", "lb-agent run"],
        ),
        (
            "http://127.0.0.1:1".to_owned(),
            vec!["http://127.0.0.1:1/", "Connection refused", "lb-agent run"],
        ),
    ] {
        let run = run(&endpoint, &["list"]);
        assert_eq!(
            (run.status, run.stdout.as_str()),
            (Some(1), ""),
            "{endpoint}: {run:?}"
        );
        for part in parts {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
    }
}

#[test]
fn what_listens_there_may_be_no_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    // The answer is not HTTP/2.
    let other = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = listener.accept().unwrap();
        drop(stream.write_all(b"220 mail.example.org ESMTP\r\n"));
    });
    let run = run(&format!("unix:{}", path.display()), &["list"]);
    other.join().unwrap();
    assert_eq!((run.status, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(run.stderr.starts_with("lbctl: cannot "), "{run:?}");
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let agent = Agent::start();
    let input = format!("{}\n", "00".repeat(20)).repeat(20_000);
    let mut child = command(
        &agent.endpoint,
        &["-o", "json", "simulate", "--packet", "-"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write as _;
        drop(stdin.write_all(input.as_bytes()));
    });
    let mut line = String::new();
    // The reader closes the pipe after a line, like `head -1`.
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(line.starts_with("{\"verdict\":"), "{line}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
