//! The database under a running agent: removed, truncated, replaced; copied and restored.

use std::{
    fs::{self, File},
    path::Path,
};

use lb_tests::{AgentOptions, binary, wait_for};

use crate::fixture::{PATIENCE, VIP, Web, serving, wait_served, wait_warning};

/// The VIPs of the agent.
fn vips(testbed: &Web) -> Vec<String> {
    let list = testbed.agent.ctl_json("list").unwrap();
    let vips = list.as_array().unwrap().iter();
    vips.map(|vip| vip["vip"].as_str().unwrap().to_owned())
        .collect()
}

pub fn a_database_that_is_removed_or_truncated_is_rewritten() {
    let mut testbed = serving(1, AgentOptions::default());
    let database = testbed.agent.state().join("intent.redb");
    let truncate = |file: &Path| File::options().write(true).open(file)?.set_len(0);
    let remove = |file: &Path| fs::remove_file(file);
    type Loss<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let losses: [Loss<'_>; 2] = [&truncate, &remove];
    for (number, lose) in (1..).zip(losses) {
        lose(&database).unwrap();
        testbed
            .agent
            .ctl(&format!("add-vip 192.0.2.99:{number}/tcp"))
            .unwrap();
    }
    // Without a change it is noticed, too.
    remove(&database).unwrap();
    wait_for("the database to be back", PATIENCE, || {
        Ok(database.exists().then_some(()))
    })
    .unwrap();
    let before = vips(&testbed);
    assert_eq!(before.len(), 3);
    testbed.agent.kill().unwrap();
    testbed.agent.run().unwrap();
    assert_eq!(vips(&testbed), before);
    wait_served(&testbed);
}

pub fn a_database_that_is_replaced_is_left_alone_and_told() {
    let mut testbed = serving(2, AgentOptions::default());
    testbed
        .agent
        .ctl(&format!("set-vip {VIP} --check http"))
        .unwrap();
    let database = testbed.agent.state().join("intent.redb");
    let other = database.with_extension("other");
    fs::copy(&database, &other).unwrap();
    fs::rename(&other, &database).unwrap();
    // No change is acknowledged that would be lost.
    let refused = testbed.agent.ctl("add-vip 192.0.2.99:80/tcp").unwrap_err();
    let text = format!("{refused:#}");
    assert!(text.contains("another file was put in its place"), "{text}");
    let warning = wait_warning(&testbed, "another file");
    assert!(warning.contains("lbctl backup"), "{warning}");
    // The agent's other parts live.
    testbed.backends[0].server.ask_to_end();
    wait_for("the death of a real to be handled", PATIENCE, || {
        let list = testbed.agent.ctl_json("list")?;
        let reals = list[0]["reals"].as_array().cloned().unwrap_or_default();
        Ok(reals
            .iter()
            .any(|real| real["state"] == "down")
            .then_some(()))
    })
    .unwrap();
    wait_served(&testbed);
}

pub fn a_copy_is_restored_after_the_difference_was_shown() {
    let mut testbed = serving(1, AgentOptions::default());
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    testbed
        .agent
        .ctl(&format!("backup {}", copy.display()))
        .unwrap();
    testbed.agent.ctl("add-vip 192.0.2.99:80/tcp").unwrap();
    let state = testbed.agent.state();
    let pins = testbed.agent.pins().to_owned();
    let restore = |testbed: &Web, yes: &[&str]| {
        let mut arguments = vec![
            binary("lb-agent").unwrap().display().to_string(),
            "restore".to_owned(),
            copy.display().to_string(),
            "--state".to_owned(),
            state.display().to_string(),
            "--pins".to_owned(),
            pins.display().to_string(),
        ];
        arguments.extend(yes.iter().map(|word| (*word).to_owned()));
        testbed.network.balancer.run(arguments)
    };
    let refused = format!("{:#}", restore(&testbed, &["--yes"]).unwrap_err());
    assert!(refused.contains("stop the agent first"), "{refused}");
    testbed.agent.stop().unwrap();
    // Shown first, and nothing is changed.
    let shown = restore(&testbed, &[]).unwrap();
    assert!(
        shown.contains("VIP 192.0.2.99:80/tcp: the tables forward it")
            && shown.contains("nothing was changed"),
        "{shown}"
    );
    wait_served(&testbed);
    restore(&testbed, &["--yes"]).unwrap();
    testbed.agent.run().unwrap();
    assert_eq!(vips(&testbed), [VIP]);
    wait_served(&testbed);
    // A copy that was cut off is refused.
    let text = fs::read_to_string(&copy).unwrap();
    fs::write(&copy, &text[..text.len() / 2]).unwrap();
    testbed.agent.stop().unwrap();
    assert!(restore(&testbed, &["--yes"]).is_err());
}
