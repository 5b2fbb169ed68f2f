//! Two agents, or two databases, and one folder of pins.

use std::{fs, process::Command};

use aya::maps::{Array, Map, MapData};
use lb_common::tables::{meta::Meta, names};
use lb_tests::{AgentOptions, binary};

use crate::fixture::{PATIENCE, VIP, serving, wait_served, wait_warning};

pub fn a_lost_database_does_not_empty_the_tables() {
    let mut testbed = serving(1, AgentOptions::default());
    testbed.agent.stop().unwrap();
    fs::remove_dir_all(testbed.agent.state()).unwrap();
    let refused = format!("{:#}", testbed.agent.run().unwrap_err());
    for words in [
        "1 VIP (192.0.2.10:80/tcp)",
        "is empty",
        "--take-over",
        "--state",
        "still flow",
    ] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    wait_served(&testbed);

    // Another database, which is not empty, is refused as well.
    let arguments = &mut testbed.agent.options_mut().arguments;
    arguments.push("--take-over".to_owned());
    testbed.agent.run().unwrap();
    assert_eq!(
        testbed.agent.ctl_json("list").unwrap(),
        serde_json::json!([])
    );
    let all: Vec<_> = testbed.backends.iter().collect();
    testbed.add_service(VIP, &[], &all).unwrap();
    wait_served(&testbed);

    // From now on these are its own tables.
    testbed.agent.kill().unwrap();
    testbed.agent.options_mut().arguments.clear();
    testbed.agent.run().unwrap();
    wait_served(&testbed);
}

pub fn a_second_agent_leaves_the_first_ones_vips_alone() {
    let mut testbed = serving(1, AgentOptions::default());
    let state = tempfile::tempdir().unwrap();
    let second = |testbed: &crate::fixture::Web| {
        let mut command: Command = testbed
            .network
            .balancer
            .command(binary("lb-agent").unwrap());
        command
            .args(["run", "--iface", "eth0", "--pins"])
            .arg(testbed.agent.pins())
            .arg("--state")
            .arg(state.path())
            .arg(format!("--listen=unix:{}/api.sock", state.path().display()));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = second(&testbed);
    assert!(refused.contains("stop that agent first"), "{refused}");
    wait_served(&testbed);
    // The first one does not run, but the VIPs are its own.
    testbed.agent.stop().unwrap();
    let refused = second(&testbed);
    assert!(refused.contains("--take-over"), "{refused}");
    wait_served(&testbed);
    testbed.agent.run().unwrap();
    wait_served(&testbed);
}

pub fn detach_is_refused_while_an_agent_runs() {
    let testbed = serving(1, AgentOptions::default());
    let refused = format!("{:#}", testbed.agent.detach().unwrap_err());
    assert!(refused.contains("stop that agent first"), "{refused}");
    wait_served(&testbed);
    // Forced, it detaches, and the agent attaches again.
    let detached = lb_dataplane::detach(testbed.agent.pins(), true).unwrap();
    assert_eq!(detached, ["eth0"]);
    wait_served(&testbed);
}

pub fn tables_that_somebody_else_changes_are_told() {
    const META: usize = size_of::<Meta>();
    let testbed = serving(1, AgentOptions::default());
    let folder = testbed.agent.pins().join("maps-1");
    let map = MapData::from_pin(folder.join(names::META)).unwrap();
    let mut meta: Array<_, [u8; META]> = Map::from_map_data(map).unwrap().try_into().unwrap();
    let record = meta.get(&0, 0).unwrap();
    let mut changed = record;
    changed[std::mem::offset_of!(Meta, session)] ^= 2;
    meta.set(0, changed, 0).unwrap();
    wait_warning(&testbed, "another agent has taken the tables");
    meta.set(0, record, 0).unwrap();
    lb_tests::wait_for("the warning's end", PATIENCE, || {
        let status = testbed.agent.ctl_json("status")?;
        Ok(!status.to_string().contains("another agent")).map(|gone| gone.then_some(()))
    })
    .unwrap();
}
