//! The file system of the state directory is full.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    path::Path,
    process::Command,
    time::Duration,
};

use lb_tests::{
    AgentOptions, SmallDisk,
    client::{Connections, HttpPlan, Load, http_load},
    vip_target, wait_for,
};

use crate::fixture::{PATIENCE, VIP, Web, serving, wait_served, wait_warning};

/// The size of the file system. A database has 1.5 MiB from the start, and is rewritten beside itself.
const SIZE: &str = "16m";

/// Gives the empty blocks of a database back to the file system: an agent has them from its start, and could make many
/// changes in them.
fn give_back_empty_blocks(path: &Path) {
    let status = Command::new("fallocate")
        .arg("--dig-holes")
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Writes to the end of a file until there is no room left.
fn fill(path: &Path) {
    let mut filler = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let block = [1; 4_096];
    loop {
        match filler.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The VIPs of the agent.
fn vips(testbed: &Web) -> BTreeSet<String> {
    let list = testbed.agent.ctl_json("list").unwrap();
    let vips = list.as_array().unwrap().iter();
    vips.map(|vip| vip["vip"].as_str().unwrap().to_owned())
        .collect()
}

/// Clients that open a connection for each request.
fn traffic(testbed: &Web) -> Load {
    let target: SocketAddr = vip_target(VIP).unwrap();
    let plan = HttpPlan {
        target,
        workers: 4,
        connections: Connections::New,
        pause: Duration::from_millis(20),
        requests: None,
    };
    http_load(&testbed.client, plan)
}

fn refused_for_lack_of_room(testbed: &Web, vip: &str) -> bool {
    let Err(error) = testbed.agent.ctl(&format!("add-vip {vip}")) else {
        return false;
    };
    let text = format!("{error:#}");
    for words in [
        "intent.redb",
        "No space left",
        "nothing was changed",
        "see that the state directory has room",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    true
}

pub fn a_full_disk_refuses_changes_and_nothing_else() {
    let mut testbed = serving(1, AgentOptions::default());
    testbed.agent.stop().unwrap();
    let state = testbed.agent.state();
    let disk = SmallDisk::new(&state, SIZE).unwrap();
    testbed.agent.options_mut().disk = Some(disk.clone());
    testbed.agent.run().unwrap();
    wait_served(&testbed);
    let load = traffic(&testbed);
    let mut acknowledged = vips(&testbed);

    let filler = state.join("filler");
    let fill_up = || disk.enter(|| fill(&filler)).unwrap();
    disk.enter(|| give_back_empty_blocks(&state.join("intent.redb")))
        .unwrap();
    fill_up();
    // The file of the database may still have some room of its own.
    let mut names = (1..=u16::MAX).map(|port| format!("192.0.2.99:{port}/tcp"));
    let refused = names
        .find(|vip| {
            let refused = refused_for_lack_of_room(&testbed, vip);
            if !refused {
                acknowledged.insert(vip.clone());
                // The agent may have given room back: it rewrites a database beside itself.
                fill_up();
            }
            refused
        })
        .unwrap();
    assert_eq!(
        vips(&testbed),
        acknowledged,
        "a refusal has changed nothing"
    );
    let warning = wait_warning(&testbed, "changes are refused");
    assert!(
        warning.contains("No space left") && warning.contains("lbctl backup"),
        "{warning}"
    );
    assert!(refused_for_lack_of_room(&testbed, &refused));
    // What the agent knows can be saved elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy");
    let backup = format!("backup {}", copy.display());
    testbed.agent.ctl(&backup).unwrap();
    let copied = fs::read_to_string(&copy).unwrap();
    assert!(acknowledged.iter().all(|vip| copied.contains(vip.as_str())));
    load.wait_requests(100, PATIENCE).unwrap();

    // An agent that starts on the full disk serves what was acknowledged.
    testbed.agent.kill().unwrap();
    testbed.agent.run().unwrap();
    assert_eq!(vips(&testbed), acknowledged);
    load.wait_requests(100, PATIENCE).unwrap();
    assert!(refused_for_lack_of_room(&testbed, &refused));

    disk.enter(|| fs::remove_file(&filler)).unwrap().unwrap();
    wait_for("a change to be accepted", PATIENCE, || {
        testbed.agent.ctl(&format!("add-vip {refused}")).map(Some)
    })
    .unwrap();
    acknowledged.insert(refused);
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["warnings"], serde_json::json!([]));
    assert_eq!(vips(&testbed), acknowledged);
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}

pub fn a_read_only_disk_refuses_the_start_and_packets_flow_on() {
    let mut testbed = serving(1, AgentOptions::default());
    testbed.agent.stop().unwrap();
    let disk = SmallDisk::new(&testbed.agent.state(), SIZE).unwrap();
    testbed.agent.options_mut().disk = Some(disk.clone());
    let load = traffic(&testbed);
    disk.set_read_only(true).unwrap();
    let refused = format!("{:#}", testbed.agent.run().unwrap_err());
    for words in ["intent.redb", "Read-only file system", "--state"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    load.wait_requests(100, PATIENCE).unwrap();
    disk.set_read_only(false).unwrap();
    testbed.agent.run().unwrap();
    wait_served(&testbed);
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status}");
    load.wait_requests(100, PATIENCE).unwrap();
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{:?}", report.errors);
}
