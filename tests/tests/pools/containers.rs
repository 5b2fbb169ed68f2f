//! A pool of containers, with a Docker engine that the test starts.

use std::{collections::BTreeMap, fs, time::Instant};

use anyhow::{Context as _, ensure};
use lb_tests::{
    server::{DockerEngine, WEB_SERVER},
    wait_for,
};
use serde_json::Value;

use crate::fixture::{Controller, PATIENCE, current, is_serving, port, request, text};

/// The settings of a pool of containers, which share the engine's network and mount the machine's programs.
fn settings(controller: &Controller, engine: &DockerEngine, port: u16) -> anyhow::Result<String> {
    let path = controller.folder().join("pool.toml");
    // Braces of arguments are for placeholders.
    let script = WEB_SERVER.replace('{', "{{").replace('}', "}}");
    fs::write(
        &path,
        format!(
            r#"
driver = {{ kind = "docker", socket = "{}", pull = "never" }}
network = {{ port = {port} }}
check = {{ kind = "http", path = "/api/v1/_health", interval = "1s", fast_interval = "100ms", unhealthy_threshold = 2 }}
scaling = {{ min = 2, max = 4, relaunch_first = "100ms", drain_natural = "0ms", drain_deadline = "5s" }}

[template]
image = "lb"
program = "/usr/bin/perl"
arguments = ["-e", '''{script}''', "{{port}}"]
memory = "64MiB"
stop_grace = "1s"
volume = {{ source = "/usr", target = "/usr" }}
"#,
            engine.socket().display()
        ),
    )?;
    Ok(path.display().to_string())
}

/// Names of all containers, and their states.
fn containers(engine: &DockerEngine) -> anyhow::Result<BTreeMap<String, String>> {
    let lines = engine.docker(&["ps", "--all", "--format", "{{.Names}} {{.State}}"])?;
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    Ok(lines.lines().filter_map(pair).collect())
}

fn names(instances: &[Value]) -> Vec<String> {
    instances.iter().map(|one| text(&one["name"])).collect()
}

/// Waits for another instance in the place of `victim`, and returns all.
fn wait_relaunched(controller: &Controller, victim: &Value) -> anyhow::Result<Vec<Value>> {
    let waited = wait_for("another container at the same address", PATIENCE, || {
        let now = controller.instances("web")?;
        let place = now.iter().find(|one| one["number"] == victim["number"]);
        let place = place.context("its place is gone")?;
        ensure!(
            place["name"] != victim["name"] && now.iter().all(is_serving),
            "{now:?}"
        );
        ensure!(place["endpoint"] == victim["endpoint"], "{now:?}");
        Ok(Some(now))
    });
    waited.with_context(|| controller.output())
}

pub fn a_pool_of_containers_outlives_crashes_its_engine_and_its_controller() -> anyhow::Result<()> {
    let mut engine = DockerEngine::start_in(&current()?)?;
    let mut controller = Controller::start("containers", &[])?;
    let file = settings(&controller, &engine, port())?;
    let begin = Instant::now();
    controller.pool(&["add", "web", "-f", &file])?;
    let mut instances = controller.wait_serving("web", 2)?;
    println!("2 containers serve after {:?}", begin.elapsed());
    for one in &instances {
        let answer = request(&text(&one["endpoint"]), "GET /")?;
        assert_eq!(answer, (200, text(&one["name"])));
    }

    // One answers 500 from now on.
    let victim = instances[0].clone();
    let begin = Instant::now();
    request(&text(&victim["endpoint"]), "POST /api/v1/_crash")?;
    instances = wait_relaunched(&controller, &victim)?;
    println!("crashed: back after {:?}", begin.elapsed());
    // One is killed behind the controller's back, and one removed.
    for words in [vec!["kill"], vec!["rm", "--force"]] {
        let victim = instances[1].clone();
        let name = text(&victim["name"]);
        let begin = Instant::now();
        engine.docker(&[words.clone(), vec![&name]].concat())?;
        instances = wait_relaunched(&controller, &victim)?;
        println!("{}: back after {:?}", words[0], begin.elapsed());
    }
    // One that somebody has paused goes on.
    engine.docker(&["pause", &text(&instances[0]["name"])])?;
    wait_for("the paused container to go on", PATIENCE, || {
        let all = containers(&engine)?;
        ensure!(all.values().all(|state| state == "running"), "{all:?}");
        Ok(Some(()))
    })?;
    instances = controller.wait_serving("web", 2)?;

    // The engine is killed: the containers serve on, and a change is accepted and made when it is back.
    engine.kill_engine()?;
    wait_for("the trouble", PATIENCE, || {
        let list = controller.pool(&["list", "web"])?;
        ensure!(list.contains("  ! "), "{list}");
        Ok(Some(()))
    })?;
    controller.pool(&["scale", "web", "3"])?;
    for one in &instances {
        assert_eq!(request(&text(&one["endpoint"]), "GET /")?.0, 200);
    }
    engine.run_engine()?;
    let grown = controller.wait_serving("web", 3)?;
    assert_eq!(names(&grown)[..2], names(&instances)[..]);

    // The controller is killed, and adopts them.
    controller.kill()?;
    controller.run()?;
    assert_eq!(names(&controller.wait_serving("web", 3)?), names(&grown));

    // A warm one, which is paused; it serves at once when the pool grows.
    controller.pool(&["set", "web", "scaling.spare=1"])?;
    let spare = wait_for("a paused spare", PATIENCE, || {
        let all = containers(&engine)?;
        let paused = all.iter().find(|(_, state)| *state == "paused");
        Ok(paused.map(|(name, _)| name.clone()))
    })?;
    controller.pool(&["scale", "web", "4"])?;
    wait_for("the spare to serve", PATIENCE, || {
        let now = controller.instances("web")?;
        let serves = now
            .iter()
            .any(|one| text(&one["name"]) == spare && is_serving(one));
        ensure!(serves, "{now:?}");
        Ok(Some(()))
    })?;
    controller.pool(&["set", "web", "scaling.spare=0"])?;
    controller.pool(&["scale", "web", "2"])?;
    wait_for("two containers", PATIENCE, || {
        let all = containers(&engine)?;
        ensure!(all.len() == 2, "{all:?}");
        Ok(Some(()))
    })?;
    controller.pool(&["del", "web"])?;
    wait_for("the pool's end", PATIENCE, || {
        Ok((controller.pool(&["list"])?.contains("there are no pools")).then_some(()))
    })?;
    let left = containers(&engine)?;
    ensure!(left.is_empty(), "{left:?}");
    controller.check()
}
