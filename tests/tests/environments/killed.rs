//! A controller that is killed at each step of the story of an environment.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use lb_tests::{binary, command_tree, wait_for};

use crate::{bed::PATIENCE, site::Site};

const STATES: [&str; 7] = [
    "waiting",
    "running",
    "waits for children",
    "compensating",
    "done",
    "failed",
    "cancelled",
];

/// `lbctl command watch`, line by line.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended with the controller.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watch {
    fn start(site: &Site, command: u64) -> anyhow::Result<Self> {
        let mut child = Command::new(binary("lbctl")?)
            .args([
                "command",
                "--controller",
                &site.controller.endpoint(),
                "watch",
            ])
            .arg(command.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Watch { child, lines })
    }
}

/// The number and the state in a line such as `  12 create web-2: running`.
fn step(line: &str) -> Option<(u64, &'static str)> {
    let (id, rest) = line.trim().split_once(' ')?;
    let state = STATES
        .into_iter()
        .find(|state| rest.contains(&format!(": {state}")))?;
    Some((id.parse().ok()?, state))
}

/// Has an order done while the controller is killed at each step of it. Returns the tree, and how often it was killed.
fn order(site: &mut Site, line: &str) -> anyhow::Result<(String, usize)> {
    let ordered = site.read(line)?;
    let id = ordered["command"].as_u64().context("no command")?;
    follow(site, id)
}

fn follow(site: &mut Site, id: u64) -> anyhow::Result<(String, usize)> {
    let mut seen: BTreeSet<(u64, &'static str)> = BTreeSet::new();
    let mut kills = 0;
    loop {
        let watch = Watch::start(site, id)?;
        let mut has_ended = false;
        let is_new = loop {
            let Ok(line) = watch.lines.recv_timeout(Duration::from_secs(120)) else {
                break false;
            };
            let Some(step) = step(&line) else { continue };
            has_ended |= step.0 == id && matches!(step.1, "done" | "failed" | "cancelled");
            if seen.insert(step) {
                break true;
            }
            if has_ended {
                break false;
            }
        };
        drop(watch);
        if is_new {
            site.controller.kill()?;
            site.controller.run()?;
            kills += 1;
        }
        if has_ended {
            break;
        }
        ensure!(kills < 200, "{seen:?}");
    }
    let tree = wait_for("the end of the order", PATIENCE, || {
        let tree = site.read(&format!("command show {id}"))?;
        ensure!(tree[0]["state"] == "done", "{}", command_tree(&tree));
        Ok(Some(command_tree(&tree)))
    });
    Ok((tree.with_context(|| site.controller.output())?, kills))
}

pub fn a_controller_that_is_killed_at_each_step_comes_to_the_same_end() -> anyhow::Result<()> {
    let mut site = Site::new("env-killed", "down_after=5s")?;
    let mut total = 0;
    let mut step = |site: &mut Site, line: String, expected: &str| -> anyhow::Result<()> {
        let (tree, kills) = order(site, &line)?;
        println!("{kills} kills: {}", tree.lines().next().unwrap_or_default());
        total += kills;
        ensure!(tree == expected, "{tree}");
        Ok(())
    };
    let line = site.adding("web-1", "web", 8001);
    step(&mut site, line, "add web-1\n  create web-1\n")?;
    let line = site.adding("web-2", "web", 8002);
    let expected = "\
add web-2
  add balancer
    create balancer
    bind web-1 to balancer
  create web-2
  bind web-2 to balancer
";
    step(&mut site, line, expected)?;
    site.wait_served("balancer", &["web-1", "web-2"])?;
    // Nothing is there twice.
    ensure!(
        site.controller.running().len() == 3,
        "{:?}",
        site.controller.running()
    );
    let line = site.adding("web-3", "web", 8003);
    step(
        &mut site,
        line,
        "add web-3\n  create web-3\n  bind web-3 to balancer\n",
    )?;
    site.wait_served("balancer", &["web-1", "web-2", "web-3"])?;
    let balancer = site.member("balancer")?.context("no balancer")?;
    ensure!(balancer["url"] == "http://10.10.60.11/", "{balancer}");

    // The load balancer is down, and comes back.
    site.cut_off("10.10.60.11", true)?;
    let id = wait_for("that it is down", PATIENCE, || {
        let list = site.read("command list")?;
        let list = list.as_array().context("no list")?.clone();
        let found = list.iter().find(|one| one["about"] == "is-down balancer");
        Ok(found.and_then(|one| one["id"].as_u64()))
    })?;
    let (tree, kills) = follow(&mut site, id)?;
    println!("{kills} kills: is-down balancer");
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
    site.wait_served("balancer-2", &["web-1", "web-2", "web-3"])?;
    site.cut_off("10.10.60.11", false)?;
    let id = wait_for("that it is back", PATIENCE, || {
        let list = site.read("command list")?;
        let list = list.as_array().context("no list")?.clone();
        let found = list.iter().find(|one| one["about"] == "collect balancer");
        Ok(found.and_then(|one| one["id"].as_u64()))
    })?;
    let (tree, more) = follow(&mut site, id)?;
    ensure!(tree == "collect balancer\n  delete balancer\n", "{tree}");
    println!("{more} kills: collect balancer");
    total += kills + more;

    for verb in ["suspend", "resume", "stop", "start"] {
        let (tree, kills) = order(&mut site, &format!("env {verb} shop site"))?;
        println!("{kills} kills: {verb}");
        total += kills;
        ensure!(tree.lines().count() == 5, "{tree}");
    }
    site.wait_served("balancer-2", &["web-1", "web-2", "web-3"])?;
    ensure!(
        site.controller.running().len() == 4,
        "{:?}",
        site.controller.running()
    );
    let (tree, kills) = order(&mut site, "env destroy shop site")?;
    total += kills;
    ensure!(tree.lines().count() == 5, "{tree}");
    println!("{total} kills in all");
    ensure!(
        site.run("env list shop")?
            .contains("there are no environments")
    );
    ensure!(
        site.controller.running().is_empty(),
        "{:?}",
        site.controller.running()
    );
    ensure!(total > 30, "{total}");
    Ok(())
}
