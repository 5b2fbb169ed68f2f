//! The configuration file is read again while clients connect.

use std::fs;

use lb_tests::{Agent, AgentOptions, wait_for};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed};

fn vip(vip: &str, settings: &str, reals: &[&str]) -> String {
    let mut text = format!("[[vip]]\naddress = \"{vip}\"\n{settings}\n");
    for real in reals {
        text += &format!("[[vip.real]]\naddress = \"{real}\"\n");
    }
    text
}

/// Names, owners and weights of all reals.
fn reals(agent: &Agent) -> Value {
    let list = agent.ctl_json("list").unwrap();
    let vips = list.as_array().unwrap().iter().flat_map(|vip| {
        let reals = vip["reals"].as_array().unwrap().iter();
        reals.map(|real| json!([vip["vip"], real["address"], real["owner"], real["weight"]]))
    });
    vips.collect()
}

pub fn a_reload_makes_the_files_objects_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lb.toml");
    let path = file.display().to_string();
    fs::write(&file, vip(HTTP_V4, "", &["10.77.0.1", "10.77.0.2"])).unwrap();
    let options = AgentOptions {
        arguments: vec!["--config".to_owned(), path.clone()],
        ..AgentOptions::default()
    };
    let testbed = Testbed::new(1, &[HTTP_V4, HTTP_V6], options).unwrap();
    let agent = &testbed.agent;
    let of_file = |real: &str| json!([HTTP_V4, real, "file", 100]);
    assert_eq!(
        reals(agent),
        json!([of_file("10.77.0.1"), of_file("10.77.0.2")])
    );

    // The file's objects are not the operator's, who adds one of his own and drains one by force.
    let refused = agent
        .ctl(&format!("drain {HTTP_V4} 10.77.0.1"))
        .unwrap_err();
    assert!(format!("{refused:#}").contains("--force"), "{refused:#}");
    agent
        .ctl(&format!("add-real {HTTP_V4} 10.77.0.9 --weight 7"))
        .unwrap();
    agent
        .ctl(&format!("drain {HTTP_V4} 10.77.0.1 --force"))
        .unwrap();

    // What the next file would change.
    let next =
        vip(HTTP_V4, "window = \"5m\"", &["10.77.0.1", "10.77.0.3"]) + &vip(HTTP_V6, "", &[]);
    fs::write(&file, &next).unwrap();
    let before = reals(agent);
    let plan = agent.ctl_json(&format!("diff {path}")).unwrap();
    let kinds: Vec<&str> = plan["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["delete_real", "update_vip", "add_real", "add_vip"]);
    assert_eq!(plan["left"][0]["owner"], "api", "{plan}");
    assert!(plan["moves"][0]["moved"].as_f64().unwrap() > 0.3, "{plan}");
    assert_eq!(reals(agent), before, "nothing was changed");

    agent.signal(Signal::SIGHUP).unwrap();
    let expected = json!([
        [HTTP_V4, "10.77.0.1", "api", 100],
        of_file("10.77.0.3"),
        [HTTP_V4, "10.77.0.9", "api", 7],
    ]);
    wait_for("the reload", PATIENCE, || {
        Ok((reals(agent) == expected).then_some(()))
    })
    .unwrap();
    assert_eq!(agent.ctl_json("list").unwrap().as_array().unwrap().len(), 2);

    // A wrong file changes nothing, and the agent goes on.
    fs::write(&file, "[[vip]]\naddress = \"nowhere\"\n").unwrap();
    let refused = agent.ctl("reload").unwrap_err();
    assert!(format!("{refused:#}").contains("lb.toml:2"), "{refused:#}");
    assert_eq!(reals(agent), expected);

    // Force takes everything over that the file names.
    fs::write(&file, next).unwrap();
    agent.ctl("reload --force").unwrap();
    let list = agent.ctl_json("list").unwrap();
    assert_eq!(list[0]["reals"][0]["drained"], false, "{list}");
    assert_eq!(list[0]["reals"][0]["owner"], "file", "{list}");
    assert_eq!(list[0]["reals"][2]["owner"], "api", "{list}");
}
