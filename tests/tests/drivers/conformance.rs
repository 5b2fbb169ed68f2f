//! What every driver must do.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use lb_drivers::{Command, Driver, ErrorCode, Hint, Listed, Phase};
use lb_model::pool::{InstanceName, Launch, Network};

/// How long the machine may take for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A grace period that nothing in a test needs.
const LONG: Duration = Duration::from_secs(60);

/// A driver under test, and how to open it again as the controller does after it was killed.
pub trait Subject {
    /// Opens the driver for an owner. The one that was open is dropped.
    fn open(&mut self, owner: &str) -> anyhow::Result<Arc<dyn Driver>>;

    /// What it makes an instance from that runs this script of the shell.
    fn launch(&self, name: &str, script: &str) -> Launch;

    /// Whether it learns with which status an instance ended.
    fn sees_endings(&self) -> bool {
        true
    }

    /// Makes a launch one that can never be made.
    fn spoil(&self, launch: &mut Launch) {
        launch.program = Some("/there/is/no/program".into());
    }

    /// Whether an instance that takes more memory than its limit is killed from outside.
    fn is_killed_for_memory(&self) -> bool {
        true
    }
}

/// Waits until an instance has ended, with this status if the subject learns that.
async fn until_ended(
    subject: &dyn Subject,
    driver: &dyn Driver,
    name: &InstanceName,
    wanted: i64,
) -> anyhow::Result<()> {
    until(&format!("{name} ends with {wanted}"), || async {
        let phase = phase(driver, name).await?;
        let Phase::Ended { status, .. } = phase else {
            return Ok(None);
        };
        Ok((status == Some(wanted) || !subject.sees_endings()).then_some(()))
    })
    .await
}

/// A launch of a script, for subjects to complete.
pub fn script(name: &str, script: &str) -> Launch {
    Launch {
        name: name.parse().unwrap(),
        image: None,
        vm: None,
        program: Some("/bin/sh".into()),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: BTreeMap::from([("COLOUR".to_owned(), "blue".to_owned())]),
        user: None,
        cpu: None,
        memory: None,
        processes: None,
        labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
        volume: None,
        files: Default::default(),
        endpoint: "127.0.0.1:8000".parse().unwrap(),
        network: Network::Host { inner_port: None },
    }
}

/// Says when it starts, and ends politely with status 3.
pub const POLITE: &str =
    "trap 'echo bye; exit 3' TERM; echo started; while :; do sleep 0.05 & wait $!; done";
/// Takes no notice of SIGTERM.
const STUBBORN: &str = "trap '' TERM; echo started; while :; do sleep 0.05; done";

/// Waits for a condition.
pub async fn until<T, F: Future<Output = anyhow::Result<Option<T>>>>(
    what: &str,
    mut ready: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        let last = ready().await;
        match last {
            Ok(Some(value)) => return Ok(value),
            Err(error) if Instant::now() > end => return Err(error.context(what.to_owned())),
            Ok(None) if Instant::now() > end => bail!("{what}: not within {PATIENCE:?}"),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

pub async fn find(driver: &dyn Driver, name: &InstanceName) -> anyhow::Result<Option<Listed>> {
    let mut found: Vec<_> = driver.list().await?;
    found.retain(|listed| listed.name == *name);
    ensure!(found.len() < 2, "it is listed twice: {found:?}");
    Ok(found.pop())
}

async fn phase(driver: &dyn Driver, name: &InstanceName) -> anyhow::Result<Phase> {
    Ok(find(driver, name)
        .await?
        .with_context(|| format!("{name} is not listed"))?
        .phase)
}

/// Waits until an instance has printed these words.
pub async fn until_printed(
    driver: &dyn Driver,
    name: &InstanceName,
    words: &str,
) -> anyhow::Result<()> {
    until(&format!("{name} prints {words}"), || async {
        let log = driver.logs(name, 10_000).await?;
        Ok(String::from_utf8_lossy(&log).contains(words).then_some(()))
    })
    .await
}

fn code<T: std::fmt::Debug>(result: Result<T, lb_drivers::DriverError>) -> ErrorCode {
    result.unwrap_err().code()
}

/// Runs all tests on a driver. `owner` is this run's own.
pub async fn conforms(subject: &mut dyn Subject, owner: &str) -> anyhow::Result<()> {
    let driver = subject.open(owner)?;
    ensure!(driver.list().await?.is_empty(), "it begins with nothing");
    twice_is_once(subject, &*driver)
        .await
        .context("twice is once")?;
    nothing_is_no_error(&*driver)
        .await
        .context("nothing there")?;
    stopping(subject, &*driver).await.context("stopping")?;
    pausing(subject, &*driver).await.context("pausing")?;
    programs(subject, &*driver).await.context("programs")?;
    ends_by_itself(subject, &*driver)
        .await
        .context("ends by itself")?;
    impossible(subject, &*driver).await.context("impossible")?;
    limits(subject, &*driver).await.context("limits")?;
    dropped_calls(subject, &driver)
        .await
        .context("dropped calls")?;
    drop(driver);
    survives(subject, owner).await.context("survives")?;
    owners(subject, owner).await.context("owners")?;
    let driver = subject.open(owner)?;
    ensure!(driver.list().await?.is_empty(), "nothing is left");
    Ok(())
}

async fn twice_is_once(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let launch = subject.launch("web-1-1", POLITE);
    let name = &launch.name;
    driver.create(&launch).await?;
    driver.create(&launch).await?;
    assert_eq!(phase(driver, name).await?, Phase::Created);
    driver.start(name).await?;
    driver.start(name).await?;
    let listed = find(driver, name).await?.context("it is not listed")?;
    assert_eq!(listed.phase, Phase::Running);
    assert_eq!(listed.fault, None);
    assert_eq!(listed.labels["team"], "shop");
    until_printed(driver, name, "started").await?;
    // Making it again does not change what runs.
    driver.create(&launch).await?;
    driver.start(name).await?;
    let log = driver.logs(name, 10_000).await?;
    assert_eq!(String::from_utf8_lossy(&log).matches("started").count(), 1);
    driver.remove(name).await?;
    assert_eq!(find(driver, name).await?, None);
    driver.remove(name).await?;
    Ok(())
}

async fn nothing_is_no_error(driver: &dyn Driver) -> anyhow::Result<()> {
    let name = "none-1-1".parse()?;
    driver.remove(&name).await?;
    assert_eq!(code(driver.start(&name).await), ErrorCode::NotFound);
    assert_eq!(code(driver.stop(&name, LONG).await), ErrorCode::NotFound);
    assert_eq!(code(driver.pause(&name).await), ErrorCode::NotFound);
    assert_eq!(code(driver.resume(&name).await), ErrorCode::NotFound);
    assert_eq!(code(driver.logs(&name, 10).await), ErrorCode::NotFound);
    let command = Command {
        words: vec!["/bin/true".to_owned()],
        input: Vec::new(),
    };
    assert_eq!(
        code(driver.exec(&name, &command).await),
        ErrorCode::NotFound
    );
    Ok(())
}

async fn stopping(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let polite = subject.launch("web-2-1", POLITE);
    driver.create(&polite).await?;
    // One that never ran has nothing to end.
    driver.stop(&polite.name, LONG).await?;
    assert!(!phase(driver, &polite.name).await?.is_up());
    driver.start(&polite.name).await?;
    until_printed(driver, &polite.name, "started").await?;
    let begin = Instant::now();
    driver.stop(&polite.name, LONG).await?;
    ensure!(begin.elapsed() < LONG, "it ended before its grace period");
    driver.stop(&polite.name, LONG).await?;
    until_ended(subject, driver, &polite.name, 3).await?;
    until_printed(driver, &polite.name, "bye").await?;
    // It can run again.
    driver.start(&polite.name).await?;
    assert_eq!(phase(driver, &polite.name).await?, Phase::Running);
    driver.remove(&polite.name).await?;

    let stubborn = subject.launch("web-3-1", STUBBORN);
    driver.create(&stubborn).await?;
    driver.start(&stubborn.name).await?;
    until_printed(driver, &stubborn.name, "started").await?;
    driver.stop(&stubborn.name, Duration::from_secs(1)).await?;
    until_ended(subject, driver, &stubborn.name, -9).await?;
    driver.remove(&stubborn.name).await?;
    Ok(())
}

async fn pausing(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let launch = subject.launch(
        "web-4-1",
        "trap 'exit 3' TERM; while :; do echo tick; sleep 0.02; done",
    );
    let name = &launch.name;
    driver.create(&launch).await?;
    driver.start(name).await?;
    until_printed(driver, name, "tick").await?;
    driver.pause(name).await?;
    driver.pause(name).await?;
    assert_eq!(phase(driver, name).await?, Phase::Paused);
    let before = driver.logs(name, 1 << 20).await?.len();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(driver.logs(name, 1 << 20).await?.len(), before);
    // One that is paused counts as started.
    driver.resume(name).await?;
    driver.resume(name).await?;
    assert_eq!(phase(driver, name).await?, Phase::Running);
    until("it goes on", || async {
        Ok((driver.logs(name, 1 << 20).await?.len() > before).then_some(()))
    })
    .await?;
    // A paused one can be stopped and removed.
    driver.pause(name).await?;
    driver.stop(name, LONG).await?;
    assert!(!phase(driver, name).await?.is_up());
    driver.start(name).await?;
    driver.pause(name).await?;
    driver.remove(name).await?;
    assert_eq!(find(driver, name).await?, None);
    Ok(())
}

async fn programs(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let launch = subject.launch("web-5-1", POLITE);
    let name = &launch.name;
    driver.create(&launch).await?;
    driver.start(name).await?;
    let run = async |script: &str, input: &[u8]| {
        let command = Command {
            words: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            input: input.to_vec(),
        };
        driver.exec(name, &command).await
    };
    let output = run(
        "cat; echo $COLOUR $LB_INSTANCE; echo no >&2; exit 7",
        b"hello ",
    )
    .await?;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "hello blue web-5-1\n"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "no\n");
    assert_eq!(output.status, 7);
    let output = run("head -c 3000000 /dev/zero", b"").await?;
    assert_eq!(output.stdout.len(), lb_drivers::MAX_OUTPUT);
    driver.remove(name).await?;
    Ok(())
}

async fn ends_by_itself(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let launch = subject.launch("web-6-1", "echo started; sleep 0.3; exit 5");
    let name = &launch.name;
    let mut hints = driver.watch();
    driver.create(&launch).await?;
    driver.start(name).await?;
    until_ended(subject, driver, name, 5).await?;
    if driver.capabilities().watch {
        tokio::time::timeout(PATIENCE, async {
            while hints.recv().await? != Hint::Changed(name.clone()) {}
            anyhow::Ok(())
        })
        .await
        .context("no hint came")??;
    }
    let command = Command {
        words: vec!["/bin/true".to_owned()],
        input: Vec::new(),
    };
    driver.exec(name, &command).await.unwrap_err();
    driver.pause(name).await.unwrap_err();
    driver.remove(name).await?;
    Ok(())
}

async fn impossible(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    let mut launch = subject.launch("web-7-1", "");
    subject.spoil(&mut launch);
    let made = match driver.create(&launch).await {
        Ok(()) => driver.start(&launch.name).await,
        Err(error) => Err(error),
    };
    assert_eq!(code(made), ErrorCode::Invalid);
    driver.remove(&launch.name).await?;
    Ok(())
}

async fn limits(subject: &dyn Subject, driver: &dyn Driver) -> anyhow::Result<()> {
    if !driver.capabilities().limits || !subject.is_killed_for_memory() {
        return Ok(());
    }
    let launch = Launch {
        memory: Some(32 << 20),
        cpu: Some(0.5),
        processes: Some(50),
        ..subject.launch("web-8-1", "sleep 0.2; exec tail /dev/zero")
    };
    driver.create(&launch).await?;
    driver.start(&launch.name).await?;
    let reason = until("its end for want of memory", || async {
        Ok(match phase(driver, &launch.name).await? {
            Phase::Ended { reason, .. } if !reason.is_empty() => Some(reason),
            _ => None,
        })
    })
    .await?;
    assert_eq!(reason, "out of memory");
    driver.remove(&launch.name).await?;
    Ok(())
}

/// Calls that are dropped at any moment leave nothing that asking again does not mend.
async fn dropped_calls(subject: &dyn Subject, driver: &Arc<dyn Driver>) -> anyhow::Result<()> {
    for (number, pause) in [0, 1, 2, 5, 10, 20, 50, 100].into_iter().enumerate() {
        let launch = subject.launch(&format!("drop-{}-1", number + 1), POLITE);
        let bounded = lb_drivers::Bounded::new(Arc::clone(driver), Duration::from_millis(pause));
        // Whether it ends in time depends on the machine.
        let _ = bounded.create(&launch).await;
        let _ = bounded.start(&launch.name).await;
        driver.create(&launch).await?;
        driver.start(&launch.name).await?;
        until_printed(&**driver, &launch.name, "started").await?;
        let log = driver.logs(&launch.name, 10_000).await?;
        assert_eq!(String::from_utf8_lossy(&log).matches("started").count(), 1);
        let _ = bounded.stop(&launch.name, Duration::ZERO).await;
        let _ = bounded.remove(&launch.name).await;
        driver.remove(&launch.name).await?;
        assert_eq!(find(&**driver, &launch.name).await?, None);
    }
    Ok(())
}

/// What the next run of the controller finds.
async fn survives(subject: &mut dyn Subject, owner: &str) -> anyhow::Result<()> {
    let [running, made, paused, ended] = [
        subject.launch("old-1-1", POLITE),
        subject.launch("old-2-1", POLITE),
        subject.launch("old-3-1", POLITE),
        subject.launch("old-4-1", "exit 0"),
    ];
    let driver = subject.open(owner)?;
    for launch in [&running, &made, &paused, &ended] {
        driver.create(launch).await?;
    }
    for launch in [&running, &paused, &ended] {
        driver.start(&launch.name).await?;
    }
    until_printed(&*driver, &running.name, "started").await?;
    until_printed(&*driver, &paused.name, "started").await?;
    driver.pause(&paused.name).await?;
    until("the end of one", || async {
        Ok((!phase(&*driver, &ended.name).await?.is_up()).then_some(()))
    })
    .await?;
    drop(driver);

    let driver = subject.open(owner)?;
    assert_eq!(driver.list().await?.len(), 4);
    assert_eq!(phase(&*driver, &running.name).await?, Phase::Running);
    assert_eq!(phase(&*driver, &made.name).await?, Phase::Created);
    assert_eq!(phase(&*driver, &paused.name).await?, Phase::Paused);
    assert!(matches!(
        phase(&*driver, &ended.name).await?,
        Phase::Ended { .. }
    ));
    // What is asked for again is found.
    driver.create(&running).await?;
    driver.start(&running.name).await?;
    let log = driver.logs(&running.name, 10_000).await?;
    assert_eq!(String::from_utf8_lossy(&log).matches("started").count(), 1);
    driver.resume(&paused.name).await?;
    let mut hints = driver.watch();
    driver.stop(&running.name, LONG).await?;
    if driver.capabilities().watch {
        tokio::time::timeout(PATIENCE, async {
            while hints.recv().await? != Hint::Changed(running.name.clone()) {}
            anyhow::Ok(())
        })
        .await
        .context("no hint of an adopted instance came")??;
    }
    assert!(!phase(&*driver, &running.name).await?.is_up());
    for launch in [&running, &made, &paused, &ended] {
        driver.remove(&launch.name).await?;
    }
    assert_eq!(driver.list().await?, []);
    Ok(())
}

/// An owner sees and touches its own only.
async fn owners(subject: &mut dyn Subject, owner: &str) -> anyhow::Result<()> {
    let driver = subject.open(owner)?;
    let launch = subject.launch("mine-1-1", POLITE);
    driver.create(&launch).await?;
    driver.start(&launch.name).await?;
    drop(driver);
    let other = subject.open(&format!("{owner}-other"))?;
    assert_eq!(other.list().await?, []);
    match other.remove(&launch.name).await {
        Ok(()) => {}
        Err(error) => assert_eq!(error.code(), ErrorCode::Foreign),
    }
    other.stop(&launch.name, LONG).await.unwrap_err();
    drop(other);
    let driver = subject.open(owner)?;
    assert_eq!(phase(&*driver, &launch.name).await?, Phase::Running);
    driver.remove(&launch.name).await?;
    Ok(())
}
