//! Faults of the agent and of its host.

mod bench;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
pub use bench::Bench;
use lb_tests::{freeze_threads, wait_for};
use nix::sys::signal::Signal;

use self::bench::SPARE;
use crate::injection::{Damage, Fault, PATIENCE, cutting, harmless, remove, truncate};

/// Longer than the time-out of a probe, so that an agent that is stopped for as long misses its answers.
const STOP: Duration = Duration::from_millis(1_200);

/// What may be lost while packets are not forwarded.
const DATAGRAMS: &str = "datagrams that are sent meanwhile";

pub const FAULTS: &[Fault<Bench>] = &[
    harmless("the agent is killed", kill),
    harmless("the agent is stopped by its operator", end),
    harmless("the agent is frozen", freeze),
    harmless("intent.redb is removed", remove_intent),
    harmless("intent.redb is truncated", truncate_intent),
    harmless("learned.redb is removed", remove_learned),
    harmless("learned.redb is truncated", truncate_learned),
    harmless("the agent's owner hangs", freeze_owner),
    harmless("the agent's runtime hangs", freeze_runtime),
    harmless("the API's socket is removed", remove_socket),
    harmless("the pins of the tables are removed", unpin_tables),
    harmless("the configuration file is wrong", break_file),
    harmless("a neighbour is forgotten", forget_neighbour),
    harmless("the route to a real is gone", lose_route_to_spare),
    harmless("the interface of a real is down", take_spare_down),
    cutting(
        "the pin of the program's link is removed",
        DATAGRAMS,
        unpin_link,
    ),
    cutting("the folder of pins is removed", DATAGRAMS, remove_pins),
    cutting("the program is detached", DATAGRAMS, detach),
    cutting(
        "the balancer's interface is down",
        DATAGRAMS,
        take_interface_down,
    ),
    cutting("the balancer's route is gone", DATAGRAMS, lose_route),
];

fn kill(bench: &mut Bench) -> anyhow::Result<()> {
    bench.testbed.agent.kill()?;
    bench.wait_traffic()?;
    start_again(bench)
}

fn end(bench: &mut Bench) -> anyhow::Result<()> {
    bench.testbed.agent.stop()?;
    bench.wait_traffic()?;
    start_again(bench)
}

fn start_again(bench: &mut Bench) -> anyhow::Result<()> {
    bench.testbed.agent.run()?;
    let status = bench.testbed.agent.ctl_json("status")?;
    ensure!(status["adopted"] == true, "{status}");
    Ok(())
}

fn freeze(bench: &mut Bench) -> anyhow::Result<()> {
    let deaths = bench.said(": down: ");
    bench.testbed.agent.signal(Signal::SIGSTOP)?;
    let begin = Instant::now();
    let flowed = bench.wait_traffic();
    thread::sleep(STOP.saturating_sub(begin.elapsed()));
    bench.testbed.agent.signal(Signal::SIGCONT)?;
    flowed?;
    bench.testbed.wait_healthy(SPARE, &bench.spare())?;
    ensure!(bench.said(": down: ") == deaths, "a stop is no evidence");
    Ok(())
}

/// Damages a file of the state directory, and waits until the agent says that it has rewritten it.
fn lose_file(bench: &Bench, name: &str, lose: Damage) -> anyhow::Result<()> {
    let path = bench.testbed.agent.state().join(name);
    let before = bench.said("rewritten it, nothing is lost");
    lose(&path)?;
    bench.wait_said("rewritten it, nothing is lost", before)?;
    let length = fs::metadata(&path)?.len();
    ensure!(length > 0, "{name} is empty");
    Ok(())
}

fn remove_intent(bench: &mut Bench) -> anyhow::Result<()> {
    lose_file(bench, "intent.redb", remove)
}

fn truncate_intent(bench: &mut Bench) -> anyhow::Result<()> {
    lose_file(bench, "intent.redb", truncate)
}

/// Damages the file of learned weights, of which nothing is noticed: the next agent serves all the same.
fn lose_learned(bench: &mut Bench, lose: Damage) -> anyhow::Result<()> {
    lose(&bench.testbed.agent.state().join("learned.redb"))?;
    bench.wait_traffic()?;
    kill(bench)
}

fn remove_learned(bench: &mut Bench) -> anyhow::Result<()> {
    lose_learned(bench, remove)
}

fn truncate_learned(bench: &mut Bench) -> anyhow::Result<()> {
    lose_learned(bench, truncate)
}

/// Stops one thread of the agent, which then ends and says why.
fn hang(bench: &mut Bench, thread: &str, part: &str) -> anyhow::Result<()> {
    freeze_threads(bench.testbed.agent.id()?, thread)?;
    let (status, output) = bench.testbed.agent.wait_end(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {output}");
    let reason = format!("{part} hangs: it has made no progress");
    ensure!(output.contains(&reason), "{output}");
    bench.wait_traffic()?;
    start_again(bench)
}

fn freeze_owner(bench: &mut Bench) -> anyhow::Result<()> {
    hang(
        bench,
        "owner",
        "the thread that owns the kernel's tables and the database",
    )
}

fn freeze_runtime(bench: &mut Bench) -> anyhow::Result<()> {
    hang(
        bench,
        "tokio-rt-worker",
        "the runtime, which runs all tasks,",
    )
}

fn remove_socket(bench: &mut Bench) -> anyhow::Result<()> {
    let endpoint = bench.testbed.agent.endpoint();
    let path = endpoint.trim_start_matches("unix:");
    let before = bench.said("was removed; it is made again");
    fs::remove_file(path)?;
    bench.wait_said("was removed; it is made again", before)?;
    bench.testbed.agent.ctl("status").map(drop)
}

fn unpin_tables(bench: &mut Bench) -> anyhow::Result<()> {
    let pins = bench.testbed.agent.pins();
    let maps = fs::read_dir(pins)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("/maps-"))
        .context("a folder of tables")?;
    let tables: Vec<_> = fs::read_dir(&maps)?
        .map(|entry| anyhow::Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    ensure!(tables.len() > 10, "{tables:?}");
    for table in &tables {
        fs::remove_file(table)?;
    }
    wait_for("all tables to be pinned", PATIENCE, || {
        Ok(tables.iter().all(|table| table.exists()).then_some(()))
    })
}

fn break_file(bench: &mut Bench) -> anyhow::Result<()> {
    let good = fs::read(&bench.file)?;
    fs::write(&bench.file, "[[vip]]\naddress = \"nowhere\"\n")?;
    bench.testbed.agent.signal(Signal::SIGHUP)?;
    bench.wait_problem("the configuration file is not followed")?;
    fs::write(&bench.file, good)?;
    let before = bench.said("configuration file reloaded");
    bench.testbed.agent.signal(Signal::SIGHUP)?;
    bench.wait_said("configuration file reloaded", before)
}

fn forget_neighbour(bench: &mut Bench) -> anyhow::Result<()> {
    let balancer = &bench.testbed.network.balancer;
    let real = bench.testbed.backends[0].address();
    balancer.sh(&format!("ip neigh del {real} dev eth0"))?;
    wait_for("the neighbour to be known again", PATIENCE, || {
        let known = balancer.sh(&format!("ip neigh show {real}"))?;
        Ok(known.contains("lladdr").then_some(()))
    })
}

fn lose_route_to_spare(bench: &mut Bench) -> anyhow::Result<()> {
    let spare = bench.spare();
    let balancer = &bench.testbed.network.balancer;
    balancer.sh(&format!("ip route add unreachable {spare}/32"))?;
    let noticed = bench.wait_problem(&format!("the real {spare} is unreachable"));
    balancer.sh(&format!("ip route del unreachable {spare}/32"))?;
    noticed
}

fn take_spare_down(bench: &mut Bench) -> anyhow::Result<()> {
    let spare = bench.spare();
    let host = bench
        .testbed
        .backends
        .last()
        .context("a real")?
        .host
        .clone();
    host.sh("ip link set eth0 down")?;
    let noticed = wait_for("the real to be gone", PATIENCE, || {
        let state = bench.testbed.why(SPARE, &spare)?["real"]["state"].clone();
        Ok((state == "down" || state == "unreachable").then_some(()))
    });
    host.sh("ip link set eth0 up")?;
    noticed?;
    bench.testbed.wait_healthy(SPARE, &spare)
}

fn unpin_link(bench: &mut Bench) -> anyhow::Result<()> {
    let link = bench.testbed.agent.pins().join("links/eth0");
    let before = bench.said("packets of eth0 are not forwarded");
    fs::remove_file(&link)?;
    bench.wait_said("packets of eth0 are not forwarded", before)?;
    wait_for("the link to be pinned", PATIENCE, || {
        Ok(link.exists().then_some(()))
    })
}

fn remove_pins(bench: &mut Bench) -> anyhow::Result<()> {
    let pins = bench.testbed.agent.pins().to_owned();
    let before = bench.said("the folder of pins");
    fs::remove_dir_all(&pins)?;
    bench.wait_said("the folder of pins", before)?;
    wait_for("the pins", PATIENCE, || {
        let all = ["links/eth0", "balancer"];
        Ok(all.iter().all(|pin| pins.join(pin).exists()).then_some(()))
    })
}

fn detach(bench: &mut Bench) -> anyhow::Result<()> {
    let before = bench.said("packets of eth0 are not forwarded");
    let detached = lb_dataplane::detach(bench.testbed.agent.pins(), true)?;
    ensure!(detached == ["eth0"], "{detached:?}");
    bench.wait_said("packets of eth0 are not forwarded", before)
}

fn take_interface_down(bench: &mut Bench) -> anyhow::Result<()> {
    let balancer = bench.testbed.network.balancer.clone();
    balancer.sh("ip link set eth0 down")?;
    let noticed = bench.wait_problem("eth0 is down");
    balancer.sh("ip link set eth0 up")?;
    noticed
}

fn lose_route(bench: &mut Bench) -> anyhow::Result<()> {
    let balancer = bench.testbed.network.balancer.clone();
    let route = balancer.sh("ip route show proto kernel dev eth0")?;
    let route = route.lines().next().context("a route")?.trim().to_owned();
    balancer.sh(&format!("ip route del {route} dev eth0"))?;
    let noticed = bench.wait_problem("there is no route to it");
    balancer.sh(&format!("ip route add {route} dev eth0 proto kernel"))?;
    noticed
}
