//! Reports published on a topic of a real broker.

use std::{fs, time::Duration};

use anyhow::{Context as _, bail};
use lb_tests::{Namespace, Process, server::Mosquitto, wait_for};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, Publish, QoS};
use tokio::time::timeout;

use super::reporter::Reporter;

const PORT: u16 = 1883;
const TOPIC: &str = "lb/load/real";
const PATIENCE: Duration = Duration::from_secs(40);

/// A subscriber of the topic.
struct Subscriber {
    // Dropping it closes the connection.
    _client: AsyncClient,
    events: EventLoop,
}

impl Subscriber {
    async fn start(login: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new("subscriber", "127.0.0.1", PORT);
        if let Some((name, password)) = login {
            options.set_credentials(name, password);
        }
        let (client, events) = AsyncClient::new(options, 4);
        client.subscribe(TOPIC, QoS::AtMostOnce).await?;
        Ok(Self {
            _client: client,
            events,
        })
    }

    async fn next(&mut self) -> anyhow::Result<Publish> {
        let message = async {
            loop {
                if let Event::Incoming(Incoming::Publish(message)) = self.events.poll().await? {
                    return anyhow::Ok(message);
                }
            }
        };
        timeout(PATIENCE, message)
            .await
            .context("no message arrived")?
    }
}

fn report(message: &Publish) -> anyhow::Result<serde_json::Value> {
    serde_json::from_slice(&message.payload)
        .with_context(|| format!("{:?} is no JSON", message.payload))
}

fn start(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Reporter> {
    let mut all = vec!["--mqtt", "mqtt://127.0.0.1", "--topic", TOPIC];
    all.extend(arguments);
    Reporter::start(namespace, &all)
}

pub fn a_late_subscriber_gets_the_last_report_and_then_each_new_one() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    let _broker = Mosquitto::start(&namespace, PORT)?;
    let mut reporter = start(&namespace, &["--cgroup", "/"])?;
    namespace.block_on(async {
        let mut subscriber = Subscriber::start(None).await?;
        let (mut taken, mut times) = (0.0, 0);
        // A report whose acknowledgement was late may arrive twice.
        while times < 3 {
            let report = report(&subscriber.next().await?)?;
            let at = report["taken_at"].as_f64().unwrap();
            assert!(at >= taken, "{report}");
            times += u32::from(at > taken);
            taken = at;
            assert!(
                report["cpu"]
                    .as_f64()
                    .is_some_and(|cpu| (0.0..=1.0).contains(&cpu)),
                "{report}"
            );
        }
        let retained = Subscriber::start(None).await?.next().await?;
        assert!(retained.retain, "{retained:?}");
        Ok(())
    })?;
    // The reporter clears the retained message when it ends.
    reporter.process.stop()?;
    assert_eq!(retained(&namespace)?, None);
    Ok(())
}

/// Returns the retained message that a new subscriber receives, if there is one.
fn retained(namespace: &Namespace) -> anyhow::Result<Option<String>> {
    // A message published after the subscription ends the wait if nothing is retained.
    namespace.block_on(async {
        let options = MqttOptions::new("asker", "127.0.0.1", PORT);
        let (client, mut events) = AsyncClient::new(options, 4);
        client.subscribe(TOPIC, QoS::AtMostOnce).await?;
        client
            .publish(TOPIC, QoS::AtMostOnce, false, "the end")
            .await?;
        let first = async {
            loop {
                if let Event::Incoming(Incoming::Publish(message)) = events.poll().await? {
                    return anyhow::Ok(message);
                }
            }
        };
        let first = timeout(PATIENCE, first).await??;
        Ok(first
            .retain
            .then(|| String::from_utf8_lossy(&first.payload).into_owned()))
    })
}

pub fn a_killed_reporter_leaves_no_old_report() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    let _broker = Mosquitto::start(&namespace, PORT)?;
    let mut reporter = start(&namespace, &[])?;
    wait_for("a retained report", PATIENCE, || retained(&namespace))?;
    reporter.process.kill()?;
    wait_for("the will", PATIENCE, || {
        Ok(retained(&namespace)?.is_none().then_some(()))
    })
}

pub fn the_reporter_reconnects_to_a_broker_that_was_away() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    // The broker is not running at first.
    let mut reporter = start(&namespace, &[])?;
    for _ in 0..2 {
        let broker = Mosquitto::start(&namespace, PORT)?;
        wait_for("a report on the topic", PATIENCE, || retained(&namespace))?;
        drop(broker);
    }
    reporter.process.check()?;
    // The report is served over HTTP nevertheless.
    wait_for("a report over HTTP", PATIENCE, || {
        Ok(reporter
            .load()
            .is_ok_and(|load| load["memory"].is_f64())
            .then_some(()))
    })
}

pub fn it_logs_in_with_a_password_from_a_file() -> anyhow::Result<()> {
    let namespace = Namespace::new("real")?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    namespace.run([
        "mosquitto_passwd",
        "-b",
        "-c",
        &path("users"),
        "reporter",
        "sesame",
    ])?;
    fs::write(
        path("conf"),
        format!(
            "user root\nlistener {PORT}\nallow_anonymous false\npassword_file {}\n",
            path("users")
        ),
    )?;
    fs::write(path("wrong"), "hunter2\n")?;
    fs::write(path("right"), "sesame\n")?;
    let _broker: Process = namespace.start("mosquitto", "mosquitto", ["-c", &path("conf")])?;
    let login = |file: &str| {
        ["--username", "reporter", "--password-file"]
            .map(str::to_owned)
            .into_iter()
            .chain([path(file)])
            .collect::<Vec<_>>()
    };

    let wrong = login("wrong");
    let mut reporter = start(
        &namespace,
        &wrong.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    wait_for("the broker's refusal in the log", PATIENCE, || {
        reporter.process.check()?;
        let said = reporter.process.output();
        if said.contains("hunter2") {
            bail!("the password is in the log: {said}");
        }
        Ok(said.contains("refuses the connection").then_some(()))
    })?;
    drop(reporter);

    let right = login("right");
    let _reporter = start(
        &namespace,
        &right.iter().map(String::as_str).collect::<Vec<_>>(),
    )?;
    namespace.block_on(async {
        let mut subscriber = Subscriber::start(Some(("reporter", "sesame"))).await?;
        report(&subscriber.next().await?)?;
        Ok(())
    })
}
