//! The reader `docker` with an engine that the test starts.

use std::time::Duration;

use anyhow::bail;
use lb_clients::load::{
    reader::{Poll as _, docker::Docker},
    reading::Quantity,
};
use lb_clients::peer::Deadline;
use lb_tests::server::DockerEngine;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Polls until an answer is as expected.
async fn wait_answer(
    reader: &mut Docker,
    what: &str,
    is_expected: impl Fn(&Result<lb_clients::load::reading::Answer, String>) -> bool,
) -> anyhow::Result<()> {
    let begin = tokio::time::Instant::now();
    loop {
        let answer = reader.poll(&Deadline::after(TIMEOUT)).await;
        if is_expected(&answer) {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("{what}: not within {PATIENCE:?}; the last answer is {answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

pub fn containers_are_measured_by_their_own_limits() -> anyhow::Result<()> {
    let engine = DockerEngine::start()?;
    engine.run("busy", "while :; do :; done")?;
    engine.run("idle", "sleep 100000")?;
    let reader = |name: &str| Docker::new(engine.socket(), name.to_owned());
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut busy = reader("busy");
            wait_answer(&mut busy, "a busy container at its limit", |answer| {
                let cpu = answer
                    .as_ref()
                    .ok()
                    .and_then(|answer| answer.get(Quantity::Utilisation));
                cpu.is_some_and(|cpu| cpu >= 0.9)
            })
            .await?;
            wait_answer(&mut reader("idle"), "an idle container", |answer| {
                let Ok(answer) = answer else { return false };
                answer
                    .get(Quantity::Utilisation)
                    .is_some_and(|cpu| cpu < 0.1)
                    && answer
                        .get(Quantity::Memory)
                        .is_some_and(|part| part > 0.0 && part < 0.5)
            })
            .await?;

            // A restart resets the counters.
            engine.docker(&["restart", "--time", "0", "busy"])?;
            let first = busy.poll(&Deadline::after(TIMEOUT)).await;
            let cpu = first
                .as_ref()
                .ok()
                .and_then(|answer| answer.get(Quantity::Utilisation));
            assert_eq!(cpu, None, "{first:?}");

            engine.docker(&["pause", "idle"])?;
            wait_answer(&mut reader("idle"), "a paused container", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("it is paused"))
            })
            .await?;
            wait_answer(&mut reader("other"), "no container", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("no such container"))
            })
            .await?;
            wait_answer(&mut reader("../info"), "no name", |answer| {
                answer
                    .as_ref()
                    .is_err_and(|reason| reason.contains("not a name or id"))
            })
            .await
        })
}
