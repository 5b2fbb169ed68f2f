//! Parts of the agent that hang, and its configuration file.

use std::fs;

use lb_tests::{AgentOptions, freeze_thread, wait_for};
use nix::sys::signal::Signal;

use crate::fixture::{PATIENCE, VIP, Web, serving, wait_served, wait_warning};

/// Options of an agent with a configuration file of this text in a folder.
fn with_file(folder: &tempfile::TempDir, text: &str) -> AgentOptions {
    let file = folder.path().join("lb.toml");
    fs::write(&file, text).unwrap();
    AgentOptions {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..AgentOptions::default()
    }
}

pub fn an_agent_whose_owner_hangs_ends_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = with_file(&folder, "watchdog = \"5s\"\n");
    let mut testbed = serving(1, options);
    freeze_thread(testbed.agent.id().unwrap(), "owner").unwrap();
    wait_served(&testbed);
    let (status, output) = testbed.agent.wait_end(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{output}");
    for words in [
        "packets flow on; start it again",
        "the thread that owns the kernel's tables and the database hangs: it has made no progress for 5s",
    ] {
        assert!(output.contains(words), "{words}: {output}");
    }
    wait_served(&testbed);
    testbed.agent.run().unwrap();
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status}");
    wait_served(&testbed);
}

/// The warning about the configuration file, if there is one.
fn file_warning(testbed: &Web) -> anyhow::Result<Option<String>> {
    let status = testbed.agent.ctl_json("status")?;
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    let mut texts = warnings.iter().filter_map(|warning| warning.as_str());
    let warning = texts.find(|text| text.contains("the configuration file is not followed"));
    Ok(warning.map(str::to_owned))
}

pub fn a_file_that_is_not_followed_is_a_warning_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = serving(1, with_file(&folder, ""));
    let agent = &testbed.agent;
    let file = folder.path().join("lb.toml");
    let host = &testbed.network.balancer;
    let metric = || agent.ctl_json("status").unwrap()["warnings"].clone();
    assert_eq!(metric(), serde_json::json!([]));
    let watch = agent.lbctl_command(["-o", "json", "watch"]).unwrap();
    let mut watch = lb_tests::Process::start("lbctl watch", watch).unwrap();
    wait_for("the snapshot", PATIENCE, || {
        Ok(watch.output().contains(VIP).then_some(()))
    })
    .unwrap();

    // A file that cannot be read, first by a signal, then by an operator.
    fs::write(&file, "[[vip]]\naddress = \"nowhere\"\n").unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    let warning = wait_warning(&testbed, "the configuration file is not followed");
    for words in ["lb.toml", "nowhere", "nothing was changed", "SIGHUP"] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    assert!(agent.ctl("reload").is_err());
    let warning = file_warning(&testbed).unwrap().unwrap();
    assert!(warning.contains("Reload by uid 0"), "{warning}");
    // A question about the file is no attempt to follow it.
    fs::write(&file, "").unwrap();
    agent.ctl("reload --dry-run").unwrap();
    assert!(file_warning(&testbed).unwrap().is_some());
    agent.signal(Signal::SIGHUP).unwrap();
    let gone = || Ok(file_warning(&testbed)?.is_none().then_some(()));
    wait_for("the warning's end", PATIENCE, gone).unwrap();

    // A file that is right, but asks for what cannot be: an address of this host as a real.
    let own = host.v4;
    let text =
        format!("[[vip]]\naddress = \"192.0.2.77:80/tcp\"\n[[vip.real]]\naddress = \"{own}\"\n");
    fs::write(&file, text).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    let warning = wait_warning(&testbed, "is not followed in all");
    assert!(warning.contains(&own.to_string()), "{warning}");
    fs::write(&file, "").unwrap();
    agent.ctl("reload").unwrap();
    assert_eq!(file_warning(&testbed).unwrap(), None);

    // Watchers have heard of each.
    let heard = |words: &str| watch.output().matches(words).count();
    wait_for("the events", PATIENCE, || {
        let all = heard("the configuration file is followed again") == 2
            && heard("the configuration file is not followed") == 3;
        Ok(all.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", watch.output()));
    watch.kill().unwrap();
    wait_served(&testbed);
}
