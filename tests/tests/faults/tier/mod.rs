//! Faults of the controller, of the agent that it writes to, of proxies, and of instances.

mod bench;
mod proxy;

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
pub use bench::Bench;
use lb_tests::freeze_threads;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::injection::{Damage, Fault, PATIENCE, cutting, harmless, remove, truncate};

/// Longer than the time-out of an instance's check.
const STOP: Duration = Duration::from_millis(1_200);

/// What may fail while a proxy does not answer, until the agent's check has taken it out.
const OF_PROXY: &str = "requests that it has, and connections until its check fails";
/// What may fail while an instance does not answer, until the controller has taken it out.
const OF_INSTANCE: &str = "requests that it has without a proxy, and connections until the agent knows; none through proxies";

pub const FAULTS: &[Fault<Bench>] = &[
    harmless("the controller is killed", kill_controller),
    harmless("the controller is stopped by its operator", end_controller),
    harmless("the controller is frozen", freeze_controller),
    harmless("the controller's runtime hangs", freeze_runtime),
    harmless("the controller's store hangs", freeze_store),
    harmless("controller.redb is removed", remove_store),
    harmless("controller.redb is truncated", truncate_store),
    harmless("the controller's socket is removed", remove_socket),
    harmless("the controller's file is wrong", break_controller_file),
    harmless("the agent is killed", kill_agent),
    harmless("the agent is frozen", freeze_agent),
    cutting("an instance is killed", OF_INSTANCE, kill_instance),
    cutting("an instance is frozen", OF_INSTANCE, freeze_instance),
    cutting(
        "the real of an instance is killed",
        OF_INSTANCE,
        kill_companion,
    ),
    harmless("an instance's run.json is removed", remove_run),
    harmless("an instance's run.json is truncated", truncate_run),
    harmless("an instance's launch.json is removed", remove_launch),
    harmless("an instance's launch.json is truncated", truncate_launch),
    harmless("the folder of an instance is removed", remove_instance),
    harmless("the folder of the driver is removed", remove_driver),
    cutting("a proxy is killed", OF_PROXY, kill_proxy),
    harmless("a proxy is drained and stopped", end_proxy),
    harmless("a proxy is frozen", freeze_proxy),
    cutting("a thread of a proxy hangs", OF_PROXY, freeze_worker),
    harmless("a proxy's file is wrong", break_proxy_file),
    harmless("a proxy's certificate cannot be read", break_certificate),
];

/// What proxies say while the controller does not run.
const SOURCE_LOST: &str = "lb_service_source_lost_seconds{service=\"web\"}";

/// Starts the controller again after the proxies have noticed that it is gone. It goes on with the instances that there are.
fn next_controller(bench: &mut Bench) -> anyhow::Result<()> {
    let running = bench.running();
    for proxy in &bench.proxies {
        proxy.wait_metric(SOURCE_LOST, |seconds| seconds > 0.0)?;
        proxy.wait_problem("the source of its instances is not followed")?;
    }
    bench.wait_traffic()?;
    bench.controller.kill()?;
    bench.controller.run()?;
    bench.wait_running(&running)
}

fn kill_controller(bench: &mut Bench) -> anyhow::Result<()> {
    bench.controller.kill()?;
    next_controller(bench)
}

fn end_controller(bench: &mut Bench) -> anyhow::Result<()> {
    bench.controller.process_mut()?.stop()?;
    next_controller(bench)
}

fn freeze_controller(bench: &mut Bench) -> anyhow::Result<()> {
    let running = bench.running();
    let begin = Instant::now();
    bench.controller.process_mut()?.signal(Signal::SIGSTOP)?;
    let flowed = bench.wait_traffic();
    thread::sleep(STOP.saturating_sub(begin.elapsed()));
    bench.controller.process_mut()?.signal(Signal::SIGCONT)?;
    flowed?;
    // It answers, and takes no instance for dead.
    bench.controller.pool(&["list"])?;
    bench.wait_running(&running)
}

fn freeze_runtime(bench: &mut Bench) -> anyhow::Result<()> {
    let process = bench.controller.process_mut()?;
    freeze_threads(process.id(), "tokio-rt-worker")?;
    let (status, output) = process.wait_end(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {output}");
    let reason = "the runtime, which runs all tasks, hangs: it has made no progress";
    ensure!(output.contains(reason), "{output}");
    next_controller(bench)
}

fn freeze_store(bench: &mut Bench) -> anyhow::Result<()> {
    freeze_threads(bench.controller.process_mut()?.id(), "store")?;
    bench.wait_problem("has not answered for")?;
    bench.wait_metric("lb_controller_store_up", "0")?;
    bench.wait_traffic()?;
    // What hangs so can only be killed.
    kill_controller(bench)
}

fn lose_store(bench: &mut Bench, lose: Damage) -> anyhow::Result<()> {
    const REWRITTEN: &str = "had lost records; everything was written again";
    let path = bench.controller.state().join("controller.redb");
    let before = bench.said(REWRITTEN);
    lose(&path)?;
    bench.wait_said(REWRITTEN, before)?;
    ensure!(fs::metadata(&path)?.len() > 0, "it is empty");
    // The next controller reads it.
    kill_controller(bench)
}

fn remove_store(bench: &mut Bench) -> anyhow::Result<()> {
    lose_store(bench, remove)
}

fn truncate_store(bench: &mut Bench) -> anyhow::Result<()> {
    lose_store(bench, truncate)
}

fn remove_socket(bench: &mut Bench) -> anyhow::Result<()> {
    const AGAIN: &str = "was removed; it is made again";
    let endpoint = bench.controller.endpoint();
    let before = bench.said(AGAIN);
    fs::remove_file(endpoint.trim_start_matches("unix:"))?;
    bench.wait_said(AGAIN, before)?;
    bench.controller.pool(&["list"]).map(drop)
}

fn break_controller_file(bench: &mut Bench) -> anyhow::Result<()> {
    let good = fs::read(&bench.file)?;
    fs::write(&bench.file, "colour = 1\n")?;
    bench.controller.reload()?;
    bench.wait_problem("the configuration file is not followed")?;
    bench.wait_metric("lb_controller_warnings", "1")?;
    fs::write(&bench.file, good)?;
    bench.controller.reload()?;
    bench.wait_metric("lb_controller_warnings", "0")
}

fn agent_is_up(bench: &Bench, value: &str) -> anyhow::Result<()> {
    let agent = bench.agent.endpoint();
    bench.wait_metric(
        &format!("lb_controller_agent_up{{agent=\"{agent}\"}}"),
        value,
    )
}

fn kill_agent(bench: &mut Bench) -> anyhow::Result<()> {
    bench.agent.kill()?;
    agent_is_up(bench, "0")?;
    bench.wait_problem("the agent at")?;
    bench.wait_traffic()?;
    bench.agent.run()?;
    agent_is_up(bench, "1")
}

fn freeze_agent(bench: &mut Bench) -> anyhow::Result<()> {
    let deaths = |bench: &Bench| bench.agent.output().matches(": down: ").count();
    let before = deaths(bench);
    bench.agent.signal(Signal::SIGSTOP)?;
    let begin = Instant::now();
    let flowed = bench.wait_traffic();
    thread::sleep(STOP.saturating_sub(begin.elapsed()));
    bench.agent.signal(Signal::SIGCONT)?;
    flowed?;
    bench.wait_proxy("active")?;
    ensure!(deaths(bench) == before, "a stop is no evidence");
    Ok(())
}

/// An instance and its processes.
fn instance(bench: &Bench) -> anyhow::Result<(String, Vec<Pid>)> {
    let running = bench.running();
    let name = running.first().context("an instance")?.clone();
    let processes = bench.controller.processes(&name);
    Ok((name, processes.into_iter().map(Pid::from_raw).collect()))
}

/// Waits until another instance is in the place of this one, and its clients are cut off.
fn wait_relaunch(bench: &mut Bench, name: &str) -> anyhow::Result<()> {
    lb_tests::wait_for(&format!("the end of {name}"), PATIENCE, || {
        let instances = bench.controller.instances(bench::POOL)?;
        ensure!(
            instances.len() == 3 && instances.iter().all(|one| one["name"] != name),
            "{instances:?}"
        );
        Ok(Some(()))
    })?;
    bench.direct.forgive()?;
    bench.wait_traffic()
}

fn kill_instance(bench: &mut Bench) -> anyhow::Result<()> {
    let (name, processes) = instance(bench)?;
    for process in processes {
        // It may have ended with another one.
        let _ = kill(process, Signal::SIGKILL);
    }
    wait_relaunch(bench, &name)
}

fn freeze_instance(bench: &mut Bench) -> anyhow::Result<()> {
    let (name, processes) = instance(bench)?;
    for process in processes {
        kill(process, Signal::SIGSTOP)?;
    }
    wait_relaunch(bench, &name)
}

/// Kills the `lb-agent real` beside an instance, which then gets no packets of the VIP; its proxies reach it all the same.
fn kill_companion(bench: &mut Bench) -> anyhow::Result<()> {
    let running = bench.running();
    let name = running.first().context("an instance")?;
    let companion = format!("{name}{}", bench::COMPANION);
    let before = bench.controller.processes(&companion);
    for process in &before {
        kill(Pid::from_raw(*process), Signal::SIGKILL)?;
    }
    lb_tests::wait_for(&format!("another {companion}"), PATIENCE, || {
        let now = bench.controller.processes(&companion);
        Ok((!now.is_empty() && now != before).then_some(()))
    })?;
    bench.calm().wait()?;
    bench.direct.forgive()?;
    bench.wait_running(&running)
}

/// Damages what the driver has written down of an instance, which runs on, and waits until that was written again.
fn lose_note(bench: &Bench, file: &str, lose: Damage) -> anyhow::Result<()> {
    let running = bench.running();
    let name = running.first().context("an instance")?;
    let path = driver_folder(bench).join(name).join(file);
    let good = fs::read(&path)?;
    lose(&path)?;
    wait_note(&path, &good)?;
    bench.wait_running(&running)
}

fn driver_folder(bench: &Bench) -> PathBuf {
    bench.controller.state().join("process")
}

fn wait_note(path: &std::path::Path, good: &[u8]) -> anyhow::Result<()> {
    lb_tests::wait_for(&format!("{} as it was", path.display()), PATIENCE, || {
        Ok((fs::read(path)? == good).then_some(()))
    })
}

fn remove_run(bench: &mut Bench) -> anyhow::Result<()> {
    lose_note(bench, "run.json", remove)
}

fn truncate_run(bench: &mut Bench) -> anyhow::Result<()> {
    lose_note(bench, "run.json", truncate)
}

fn remove_launch(bench: &mut Bench) -> anyhow::Result<()> {
    lose_note(bench, "launch.json", remove)
}

fn truncate_launch(bench: &mut Bench) -> anyhow::Result<()> {
    lose_note(bench, "launch.json", truncate)
}

/// Removes the folder of one instance, or of all, and waits until what is needed of it is there again.
fn lose_folder(bench: &Bench, folder: &std::path::Path) -> anyhow::Result<()> {
    let running = bench.running();
    let mut notes = Vec::new();
    for name in &running {
        for file in ["launch.json", "run.json"] {
            let path = driver_folder(bench).join(name).join(file);
            notes.push((path.clone(), fs::read(path)?));
        }
    }
    fs::remove_dir_all(folder)?;
    for (path, good) in &notes {
        wait_note(path, good)?;
    }
    bench.wait_traffic()?;
    bench.wait_running(&running)
}

fn remove_instance(bench: &mut Bench) -> anyhow::Result<()> {
    let (name, _) = instance(bench)?;
    lose_folder(bench, &driver_folder(bench).join(name))
}

fn remove_driver(bench: &mut Bench) -> anyhow::Result<()> {
    lose_folder(bench, &driver_folder(bench))
}

/// Starts the first proxy again once the agent has taken it out.
fn next_proxy(bench: &mut Bench) -> anyhow::Result<()> {
    bench.wait_proxy("down")?;
    bench.web.forgive()?;
    bench.wait_traffic()?;
    bench.proxies[0].run()?;
    bench.wait_proxy("active")
}

fn kill_proxy(bench: &mut Bench) -> anyhow::Result<()> {
    bench.proxies[0].process()?.kill()?;
    next_proxy(bench)
}

fn end_proxy(bench: &mut Bench) -> anyhow::Result<()> {
    let address = bench.proxies[0].host.v4.to_string();
    for vip in [bench::WEB, bench::TLS] {
        bench.agent.lbctl(["drain", vip, &address])?;
    }
    bench.proxies[0].process()?.stop()?;
    bench.wait_traffic()?;
    bench.proxies[0].run()?;
    for vip in [bench::WEB, bench::TLS] {
        bench.agent.lbctl(["undrain", vip, &address])?;
    }
    bench.wait_proxy("active")
}

fn freeze_proxy(bench: &mut Bench) -> anyhow::Result<()> {
    let failures = bench.proxies[0].failures()?;
    bench.proxies[0].process()?.signal(Signal::SIGSTOP)?;
    thread::sleep(STOP);
    bench.proxies[0].process()?.signal(Signal::SIGCONT)?;
    bench.wait_proxy("active")?;
    bench.wait_traffic()?;
    let blamed = bench.proxies[0].failures()? - failures;
    ensure!(blamed == 0.0, "{blamed} times an instance was blamed");
    Ok(())
}

fn freeze_worker(bench: &mut Bench) -> anyhow::Result<()> {
    let process = bench.proxies[0].process()?;
    freeze_threads(process.id(), "worker-1")?;
    let (status, output) = process.wait_end(PATIENCE)?;
    ensure!(status.code() == Some(1), "{status}: {output}");
    let reason = "a thread that serves clients hangs: it has made no progress";
    ensure!(output.contains(reason), "{output}");
    next_proxy(bench)
}

/// Tells the first proxy to read its configuration, which it cannot, and lets it read a good one.
fn refuse_reload(bench: &mut Bench, path: &std::path::Path, bad: &str) -> anyhow::Result<()> {
    const REFUSED: &str = "lb_proxy_reload_refused";
    let good = fs::read(path)?;
    fs::write(path, bad)?;
    bench.proxies[0].process()?.signal(Signal::SIGHUP)?;
    let proxy = &bench.proxies[0];
    proxy.wait_problem("the configuration is not followed")?;
    proxy.wait_metric(REFUSED, |value| value == 1.0)?;
    bench.wait_traffic()?;
    // It serves TLS as before.
    bench.wait_proxy("active")?;
    fs::write(path, good)?;
    bench.proxies[0].process()?.signal(Signal::SIGHUP)?;
    bench.proxies[0].wait_metric(REFUSED, |value| value == 0.0)
}

fn break_proxy_file(bench: &mut Bench) -> anyhow::Result<()> {
    let path = bench.proxies[0].file();
    refuse_reload(bench, &path, "[[listener]]\naddress = \"nowhere\"\n")
}

fn break_certificate(bench: &mut Bench) -> anyhow::Result<()> {
    let path = bench.proxies[0].certificate();
    refuse_reload(bench, &path, "")
}
