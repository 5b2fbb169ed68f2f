//! Wrong input is rejected with the name of the field and changes nothing; other users are rejected with advice.

use std::{
    fs::{Permissions, set_permissions},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use lb_tests::{Agent, AgentOptions, Network};

/// Commands that the agent must reject, and words that the error must contain.
const REFUSED: [(&str, &[&str]); 18] = [
    ("add-vip 224.0.0.1:80/tcp", &["id.address", "224.0.0.1"]),
    ("add-vip 127.0.0.1:80/tcp", &["id.address", "127.0.0.1"]),
    ("add-vip 0.0.0.0:80/tcp", &["id.address", "0.0.0.0"]),
    ("add-vip 255.255.255.255:80/tcp", &["id.address"]),
    ("add-vip [ff02::1]:80/tcp", &["id.address", "ff02::1"]),
    ("add-vip [fe80::1]:80/tcp", &["id.address", "fe80::1"]),
    (
        "add-vip 192.0.2.10:80/tcp",
        &["id: ", "192.0.2.10:80/tcp", "exists"],
    ),
    (
        "add-vip 192.0.2.11:80/tcp --slots 1000",
        &["spec.slots", "1000"],
    ),
    ("add-vip 192.0.2.11:80/tcp --window 60d", &["spec.window"]),
    (
        "add-real 192.0.2.10:80/tcp 10.10.30.1",
        &["address: ", "10.10.30.1", "already"],
    ),
    (
        "add-real 192.0.2.10:80/tcp 224.0.0.1",
        &["address", "224.0.0.1"],
    ),
    (
        "add-real 192.0.2.10:80/tcp 192.0.2.10",
        &["address", "192.0.2.10"],
    ),
    (
        "add-real 192.0.2.10:80/tcp 10.10.30.2 --weight 65536",
        &["spec.weight", "65536"],
    ),
    (
        "set-real 192.0.2.10:80/tcp 10.10.30.1 --weight 70000",
        &["spec.weight", "70000"],
    ),
    (
        "add-real 192.0.2.20:80/tcp fd00:10::1",
        &["address", "fd00:10::1", "l2"],
    ),
    (
        "del-real 192.0.2.10:80/tcp 10.10.30.9",
        &["address: ", "no real", "10.10.30.9"],
    ),
    (
        "del-vip 192.0.2.99:80/tcp",
        &["id: ", "no VIP", "192.0.2.99:80/tcp"],
    ),
    (
        "add-real 192.0.2.99:80/tcp 10.10.30.1",
        &["vip: ", "no VIP", "192.0.2.99:80/tcp"],
    ),
];

/// Command lines with wrong usage, which do not reach the agent.
const MISUSED: [&str; 8] = [
    "add-vip 192.0.2.10",
    "add-vip 192.0.2.10:80/icmp",
    "add-vip 192.0.2.300:80/tcp",
    "add-vip 192.0.2.11:80/tcp --forward gre",
    "add-real 192.0.2.10:80/tcp",
    "add-real 192.0.2.10:80/tcp real1.example",
    "set-real 192.0.2.10:80/tcp 10.10.30.1 --weight -1",
    "remove-everything",
];

fn attempt(agent: &Agent, line: &str) -> (Option<i32>, String) {
    let output = agent
        .lbctl_command(line.split_whitespace())
        .unwrap()
        .output()
        .unwrap();
    assert!(output.stdout.is_empty(), "`lbctl {line}` printed a result");
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

pub fn wrong_input_is_refused_and_changes_nothing() {
    let network = Network::new().unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    agent
        .add_service(
            "192.0.2.10:80/tcp",
            "--forward ipip",
            &[("10.10.30.1".to_owned(), 100)],
        )
        .unwrap();
    agent
        .add_service(
            "192.0.2.20:80/tcp",
            "--forward l2",
            &[("10.10.30.1".to_owned(), 100)],
        )
        .unwrap();
    let before = agent.ctl_json("list").unwrap();
    for (line, words) in REFUSED {
        let (status, message) = attempt(&agent, line);
        assert_eq!(status, Some(1), "`lbctl {line}`: {message}");
        for word in words {
            assert!(message.contains(word), "`lbctl {line}`, {word}: {message}");
        }
        assert_eq!(agent.ctl_json("list").unwrap(), before, "`lbctl {line}`");
    }
    for line in MISUSED {
        let (status, message) = attempt(&agent, line);
        assert_eq!(status, Some(2), "`lbctl {line}`: {message}");
        assert!(!message.is_empty(), "`lbctl {line}`");
        assert_eq!(agent.ctl_json("list").unwrap(), before, "`lbctl {line}`");
    }
}

pub fn a_mode_that_a_real_does_not_suit_is_refused() {
    const VIP: &str = "192.0.2.10:80/tcp";
    let network = Network::new().unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    agent
        .add_service(VIP, "--forward ipip", &[("fd00:10::30:1".to_owned(), 100)])
        .unwrap();
    let before = agent.ctl_json("list").unwrap();
    let (status, message) = attempt(&agent, &format!("set-vip {VIP} --forward l2"));
    assert_eq!(status, Some(1), "{message}");
    assert!(message.contains("spec.forward"), "{message}");
    assert_eq!(agent.ctl_json("list").unwrap(), before);
}

pub fn another_user_is_refused_with_the_sockets_group() {
    /// The user and the group `nobody`.
    const NOBODY: u32 = 65_534;
    let network = Network::new().unwrap();
    let agent = Agent::start(&network.balancer, AgentOptions::default()).unwrap();
    let endpoint = agent.endpoint();
    let folder = Path::new(endpoint.strip_prefix("unix:").unwrap())
        .parent()
        .unwrap();
    // Everyone may enter the folder, so that the mode of the socket decides.
    set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    // `cp` makes a copy that everyone can execute. A copy made by this process could not be executed while a child
    // of a concurrent test holds it open for writing.
    let program = folder.join("lbctl");
    let copied = Command::new("cp")
        .args([lb_tests::binary("lbctl").unwrap(), program.clone()])
        .status()
        .unwrap();
    assert!(copied.success());
    let output = Command::new(&program)
        .env_clear()
        .args(["--endpoint", &endpoint, "list"])
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("Permission denied"), "{message}");
    assert!(
        message.contains("member of the socket's group `root`"),
        "{message}"
    );
}
