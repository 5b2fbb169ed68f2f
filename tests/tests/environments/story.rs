//! What an operator does with an environment.

use anyhow::{Context as _, ensure};
use lb_tests::{command_tree, wait_for};

use crate::{bed::PATIENCE, site::Site};

pub fn an_environment_comes_changes_and_goes() -> anyhow::Result<()> {
    let site = Site::new("env", "down_after=2s balancer.nodes=1")?;
    let first = site.order(&site.adding("web-1", "web", 8001))?;
    ensure!(first == "add web-1\n  create web-1\n", "{first}");
    let second = site.order(&site.adding("web-2", "web", 8002))?;
    let expected = "\
add web-2
  add balancer
    create balancer
    bind web-1 to balancer
  create web-2
  bind web-2 to balancer
";
    ensure!(second == expected, "{second}");
    site.wait_served("balancer", &["web-1", "web-2"])?;
    let third = site.order(&site.adding("web-3", "web", 8003))?;
    ensure!(
        third == "add web-3\n  create web-3\n  bind web-3 to balancer\n",
        "{third}"
    );
    site.wait_served("balancer", &["web-1", "web-2", "web-3"])?;
    let shown = site.run("env show shop site")?;
    for words in [
        "shop/site (1): running at http://",
        "web-1, web-2, web-3",
        "all 4 members serve",
    ] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }

    // The load balancer is down: another one takes its place, and it is collected when it is back.
    site.cut_off("10.10.60.11", true)?;
    wait_for("another load balancer", PATIENCE, || {
        let tree = site.tree_of("is-down balancer")?.unwrap_or_default();
        let expected = "\
is-down balancer
  expel balancer
  add balancer-2
    create balancer-2
    bind web-1 to balancer-2
    bind web-2 to balancer-2
    bind web-3 to balancer-2
";
        ensure!(tree == expected, "{tree}");
        Ok(Some(()))
    })
    .with_context(|| site.controller.output())?;
    let old = site
        .member("balancer")?
        .context("the old one is forgotten")?;
    ensure!(old["standing"] == "illegal", "{old}");
    site.wait_served("balancer-2", &["web-1", "web-2", "web-3"])?;
    site.cut_off("10.10.60.11", false)?;
    wait_for("the old load balancer to be collected", PATIENCE, || {
        let tree = site.tree_of("collect balancer")?.unwrap_or_default();
        ensure!(tree == "collect balancer\n  delete balancer\n", "{tree}");
        let list = site.read("lb list shop")?;
        ensure!(
            list.as_array().is_some_and(|list| list.len() == 1),
            "{list}"
        );
        ensure!(site.member("balancer")?.is_none());
        Ok(Some(()))
    })
    .with_context(|| site.controller.output())?;

    let suspended = site.order("env suspend shop site")?;
    let expected = "\
suspend site
  suspend balancer-2
  suspend web-1
  suspend web-2
  suspend web-3
";
    ensure!(suspended == expected, "{suspended}");
    let instances = site.controller.instances("env-1-1")?;
    ensure!(instances[0]["phase"] == "paused", "{instances:?}");
    let running = site.controller.running();
    let resumed = site.order("env resume shop site")?;
    ensure!(resumed.lines().count() == 5, "{resumed}");
    site.wait_served("balancer-2", &["web-1", "web-2", "web-3"])?;
    ensure!(
        site.controller.running() == running,
        "nothing was started anew"
    );

    let cloned = site.order("env clone shop site site-2")?;
    let expected = "\
clone site to site-2
  add web-1
    create web-1
  add web-2
    add balancer
      create balancer
      bind web-1 to balancer
    create web-2
    bind web-2 to balancer
  add web-3
    create web-3
    bind web-3 to balancer
";
    ensure!(cloned == expected, "{cloned}");
    let stopped = site.order("env stop shop site")?;
    ensure!(
        stopped.starts_with("stop site\n  stop balancer-2\n  stop web-1\n"),
        "{stopped}"
    );
    let left = site.controller.instances("env-1-1")?;
    ensure!(left.is_empty(), "{left:?}");
    site.order("env start shop site")?;
    site.wait_served("balancer-2", &["web-1", "web-2", "web-3"])?;
    let removed = site.order("env remove shop site web-2")?;
    let expected = "remove web-2\n  unbind web-2 from balancer-2\n  delete web-2\n";
    ensure!(removed == expected, "{removed}");
    site.wait_served("balancer-2", &["web-1", "web-3"])?;
    site.order("env destroy shop site")?;
    site.order("env destroy shop site-2")?;
    ensure!(
        site.run("env list shop")?
            .contains("there are no environments")
    );
    ensure!(
        site.run("lb list shop")?
            .contains("there are no load balancers")
    );
    ensure!(
        site.controller.running().is_empty(),
        "{:?}",
        site.controller.running()
    );
    Ok(())
}

pub fn wrong_orders_change_nothing() -> anyhow::Result<()> {
    let site = Site::new("env-wrong", "")?;
    site.order(&site.adding("web-1", "web", 8001))?;
    let again = site.adding("web-1", "web", 8009);
    let bad_role = site.adding("web-2", "We_b", 8002);
    for (line, words) in [
        (
            "env create shop site",
            "there is an environment site in this project already",
        ),
        ("env create nowhere site", "there is no project nowhere"),
        ("env create shop two colour=1", "colour"),
        ("env show shop nothing", "there is no environment nothing"),
        ("env remove shop site web-9", "there is no member web-9"),
        (again.as_str(), "there is a member web-1"),
        (bad_role.as_str(), "role"),
        ("env add shop site lb role=balancer", "pool"),
        ("env clone shop site site", "there is an environment site"),
        (
            "env clone shop site two web-9.network.port=1",
            "there is no member web-9",
        ),
        ("env set shop site down_after=never", "down_after"),
        ("command show 999", "there is no command 999"),
        ("command cancel 999", "there is no command 999"),
        ("command retry 1", "the command 1 is done"),
        ("command cancel 1", "the command 1 has ended"),
        (
            "pool set env-1-1 scaling.max=3",
            "is a member of an environment",
        ),
        ("pool del env-1-1", "is a member of an environment"),
        (
            "pool add env-7-7 driver.kind=process network.port=1 template.program=/bin/true",
            "pools of environments have such names",
        ),
    ] {
        let refused = site.refused(line)?;
        ensure!(refused.contains(words), "{line}: {refused}");
    }
    let (status, answer) =
        site.http("POST", "/v1/projects/shop/environments/site/explode", None)?;
    ensure!(status == 404, "{status}: {answer}");
    // A port that is taken is a failure of the command, which leaves nothing behind.
    let refused = site.refused(&format!("{} --wait 60", site.adding("web-2", "web", 8001)))?;
    ensure!(refused.contains("pool env-1-1 has the ports"), "{refused}");
    let shown = site.shown()?;
    ensure!(
        shown["members"]
            .as_array()
            .is_some_and(|list| list.len() == 1),
        "{shown}"
    );
    ensure!(
        site.run("lb list shop")?
            .contains("there are no load balancers")
    );
    // A request that is repeated is not a second one.
    let body = r#"{"name": "three", "request": "r1"}"#;
    let (first, one) = site.http("POST", "/v1/projects/shop/environments", Some(body))?;
    let (second, two) = site.http("POST", "/v1/projects/shop/environments", Some(body))?;
    ensure!(
        (first, second) == (201, 201) && one["command"] == two["command"],
        "{one} {two}"
    );
    Ok(())
}

pub fn commands_are_cancelled_and_tried_again() -> anyhow::Result<()> {
    let site = Site::new("env-cancel", "")?;
    // It never passes its check.
    let line = site
        .adding("web-1", "web", 8001)
        .replace("server.pl", "nothing.pl");
    let ordered = site.read(&line)?;
    let id = ordered["command"].as_u64().context("no command")?;
    wait_for("the pool to be made", PATIENCE, || {
        Ok((site.controller.pool(&["list"])?.contains("env-1-1")).then_some(()))
    })?;
    let shown = site.run("command list --open")?;
    ensure!(shown.contains("add web-1"), "{shown}");
    site.run(&format!("command cancel {id} --why enough"))?;
    wait_for("the command to be undone", PATIENCE, || {
        let tree = site.read(&format!("command show {id}"))?;
        let tree = command_tree(&tree);
        let expected = "\
add web-1 cancelled
  create web-1 cancelled
    undo: create web-1
  undo: add web-1
";
        // The second undoing has the pool deleted as well, which is gone.
        ensure!(tree.starts_with(expected), "{tree}");
        ensure!(site.shown()?["members"] == serde_json::json!([]));
        ensure!(
            site.controller
                .pool(&["list"])?
                .contains("there are no pools")
        );
        Ok(Some(()))
    })
    .with_context(|| site.controller.output())?;
    // The file is there when it is tried again.
    let server = site.controller.folder().join("server.pl");
    std::fs::copy(server, site.controller.folder().join("nothing.pl"))?;
    let again = site.read(&format!("command retry {id}"))?;
    let again = again[0]["id"].as_u64().context("no command")?;
    ensure!(again > id, "{again}");
    site.run(&format!("command watch {again}"))?;
    let tree = site.read(&format!("command show {again}"))?;
    ensure!(
        command_tree(&tree) == "add web-1\n  create web-1\n",
        "{tree}"
    );
    Ok(())
}
