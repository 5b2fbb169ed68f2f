//! Nodes that are containers.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_tests::{binary, server::DockerEngine, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    bed::{Bed, PATIENCE},
    names::{dns, look_up},
};

/// The image of the nodes.
const IMAGE: &str = "lb-proxy";
const NAME: &str = "web.shop.lb.example";

/// Imports an image with `lb-proxy` and the libraries that it needs.
fn import(engine: &DockerEngine) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    let program = binary("lb-proxy")?;
    let target = root.join("lb-proxy");
    fs::create_dir_all(&root)?;
    // Without what only a debugger needs it is a tenth in size.
    let stripped = Command::new("strip")
        .arg("-o")
        .arg(&target)
        .arg(&program)
        .status();
    if !stripped.is_ok_and(|status| status.success()) {
        fs::copy(&program, &target)?;
    }
    let libraries = Command::new("ldd")
        .arg(&program)
        .output()
        .context("starting ldd")?;
    for library in String::from_utf8(libraries.stdout)?
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
    {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap_or(Path::new("/")))?;
        fs::copy(library, target)?;
    }
    // Where the engine puts files of its own.
    fs::create_dir_all(root.join("etc"))?;
    engine.import_folder_with(&root, IMAGE, &[r#"ENTRYPOINT ["/lb-proxy"]"#])
}

/// Waits until a client by name is answered, and returns how long that took since `begin`.
fn wait_named(bed: &Bed, begin: Instant) -> anyhow::Result<Duration> {
    let waited = wait_for("an answer by name", PATIENCE, || {
        let found = look_up(bed, NAME)?;
        let address = found.first().context("no address")?;
        let server = bed.ask(address, 80)?;
        ensure!(server == bed.servers[0].0.label(), "{server}");
        Ok(Some(begin.elapsed()))
    });
    waited.with_context(|| {
        let shown = bed.run("lb show shop web");
        format!("{shown:?}\n{}", bed.controller.output())
    })
}

fn instance(bed: &Bed) -> anyhow::Result<String> {
    let instances = bed.controller.instances("lb-2")?;
    let name = instances.first().and_then(|one| one["name"].as_str());
    Ok(name.context("no node")?.to_owned())
}

pub fn a_node_in_a_container_serves_and_is_replaced() -> anyhow::Result<()> {
    let engine = DockerEngine::start()?;
    import(&engine)?;
    let socket = engine.socket();
    let bed = Bed::with("container", 1, |address| {
        format!(
            "driver = {{ kind = \"docker\", socket = \"{}\", pull = \"never\" }}\nimage = \"{IMAGE}\"\nmemory = \"128MiB\"\n{}",
            socket.display(),
            dns(address)
        )
    })?;
    let one = bed.backends()[0].clone();
    bed.run("project add shop")?;
    let begin = Instant::now();
    bed.run(&format!("lb add shop web --backend {one} --wait 60"))?;
    let serving = begin.elapsed();
    let named = wait_named(&bed, begin)?;
    ensure!(serving <= named, "{serving:?} {named:?}");
    println!("a node in a container: serves after {serving:?}, by its name after {named:?}");
    bed.wait_complete("shop", "web", 1)?;
    let running = engine.docker(&["ps", "--format", "{{.Names}} {{.Image}}"])?;
    ensure!(
        running.trim() == format!("{} {IMAGE}", instance(&bed)?),
        "{running}"
    );
    for what in ["killed", "frozen", "cut off"] {
        let before = instance(&bed)?;
        let begin = Instant::now();
        match what {
            "killed" => drop(engine.docker(&["kill", &before])?),
            "frozen" => {
                let pid = engine.docker(&["inspect", "--format", "{{.State.Pid}}", &before])?;
                kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGSTOP)?;
            }
            _ => {
                let ports = bed.host.namespace().sh("ip -o link show master br0")?;
                let port = ports
                    .lines()
                    .filter_map(|line| line.split(": ").nth(1)?.split('@').next())
                    .find(|name| *name != "eth0")
                    .context("no port")?;
                bed.host
                    .namespace()
                    .sh(&format!("ip link set {port} down"))?;
            }
        }
        let other = wait_for("another node", PATIENCE, || {
            let now = instance(&bed)?;
            Ok((now != before).then(|| begin.elapsed()))
        });
        let replaced = other.with_context(|| bed.controller.output())?;
        let named = wait_named(&bed, begin)?;
        ensure!(replaced <= named, "{replaced:?} {named:?}");
        println!("a node in a container that was {what}: served again by its name after {named:?}");
        bed.wait_complete("shop", "web", 1)?;
    }
    bed.run("lb del shop web")?;
    wait_for("no container", PATIENCE, || {
        let left = engine.docker(&["ps", "--all", "--format", "{{.Names}}"])?;
        ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })?;
    ensure!(look_up(&bed, NAME)?.is_empty(), "its name is left");
    Ok(())
}
