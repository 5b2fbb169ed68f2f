//! The life of pools and of their instances.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context as _, ensure};
use lb_tests::wait_for;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::fixture::{Controller, PATIENCE, is_serving, port, request, text};

pub fn a_pool_lives_and_goes() -> anyhow::Result<()> {
    let controller = Controller::start("lives", &[])?;
    let port = port();
    let begin = Instant::now();
    controller.add_web("web", port, &["scaling.min=2", "scaling.max=4"])?;
    let instances = controller.wait_serving("web", 2)?;
    println!("2 instances serve after {:?}", begin.elapsed());
    for (number, one) in instances.iter().enumerate() {
        let endpoint = format!("127.0.0.1:{}", port + number as u16);
        assert_eq!(one["endpoint"], endpoint);
        assert_eq!(request(&endpoint, "GET /")?, (200, text(&one["name"])));
    }
    let logs = controller.pool(&["logs", &text(&instances[0]["name"])])?;
    assert_eq!(logs, format!("listening on {port}\n"));
    controller.pool(&["scale", "web", "4"])?;
    controller.wait_serving("web", 4)?;
    wait_for("a decision about all four", PATIENCE, || {
        let why = controller.pool(&["why", "web"])?;
        ensure!(why.contains("4 active, 4 desired"), "{why}");
        ensure!(why.contains("web-4-4: launched"), "{why}");
        Ok(Some(()))
    })?;
    controller.pool(&["del", "web"])?;
    wait_for("the pool's end", PATIENCE, || {
        Ok((controller.pool(&["list"])?.contains("there are no pools")).then_some(()))
    })?;
    ensure!(controller.running().is_empty());
    let error = controller.pool(&["list", "web"]).unwrap_err().to_string();
    ensure!(error.contains("there is no pool web"), "{error}");
    // Its name is free again.
    controller.add_web("web", port, &["scaling.min=1"])?;
    controller.wait_serving("web", 1)?;
    Ok(())
}

pub fn dead_instances_are_relaunched_at_their_address() -> anyhow::Result<()> {
    let controller = Controller::start("relaunch", &[])?;
    controller.add_web(
        "web",
        port(),
        &[
            "scaling.min=4",
            "scaling.max=4",
            "check.timeout=500ms",
            "check.unhealthy_threshold=2",
            "scaling.relaunch_first=100ms",
        ],
    )?;
    let mut before = controller.wait_serving("web", 4)?;
    type Death = (&'static str, fn(&Controller, &Value) -> anyhow::Result<()>);
    let deaths: [Death; 3] = [
        ("crashed", |_, one| {
            let (status, _) = request(&text(&one["endpoint"]), "POST /api/v1/_crash")?;
            assert_eq!(status, 500);
            Ok(())
        }),
        ("killed", |controller, one| {
            for pid in controller.processes(&text(&one["name"])) {
                kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            }
            Ok(())
        }),
        ("frozen", |controller, one| {
            for pid in controller.processes(&text(&one["name"])) {
                kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
            }
            Ok(())
        }),
    ];
    for (word, death) in deaths {
        let victim = before[1].clone();
        let begin = Instant::now();
        death(&controller, &victim)?;
        before = wait_for("another instance at the same address", PATIENCE, || {
            let now = controller.instances("web")?;
            ensure!(now.len() == 4, "{now:?}");
            let is_new = now[1]["name"] != victim["name"] && now.iter().all(is_serving);
            Ok(is_new.then_some(now))
        })?;
        println!("{word}: back after {:?}", begin.elapsed());
        assert_eq!(before[1]["endpoint"], victim["endpoint"]);
        assert_eq!(
            request(&text(&victim["endpoint"]), "GET /")?,
            (200, text(&before[1]["name"]))
        );
        let why = controller.pool(&["why", "web"])?;
        ensure!(
            why.contains(&format!("relaunched: {}", text(&victim["name"]))),
            "{why}"
        );
    }
    ensure!(
        controller.running().len() == 4,
        "{:?}",
        controller.running()
    );
    Ok(())
}

pub fn an_instance_that_cannot_start_says_why() -> anyhow::Result<()> {
    let controller = Controller::start("cannot", &[])?;
    controller.pool(&[
        "add",
        "bad",
        "driver.kind=process",
        &format!("network.port={}", port()),
        "template.program=/there/is/none",
    ])?;
    wait_for("the reason", PATIENCE, || {
        let list = controller.pool(&["list", "bad"])?;
        ensure!(list.contains("/there/is/none: No such file"), "{list}");
        Ok(Some(()))
    })?;
    // Other pools are not held up.
    controller.add_web("web", port(), &["scaling.min=1"])?;
    controller.wait_serving("web", 1)?;
    // One whose program ends at once is tried again, at growing intervals.
    controller.pool(&[
        "add",
        "ends",
        "driver.kind=process",
        &format!("network.port={}", port()),
        "template.program=/bin/sh",
        "template.arguments=['-c', 'echo no licence; exit 3']",
        "scaling.relaunch_first=100ms",
    ])?;
    wait_for("its relaunches", PATIENCE, || {
        let why = controller.json(&["why", "ends"])?;
        let events = why["events"].as_array().unwrap();
        let relaunches = events.iter().filter(|event| event["kind"] == "relaunched");
        Ok((relaunches.count() >= 2).then_some(()))
    })?;
    let why = controller.pool(&["why", "ends"])?;
    ensure!(why.contains("ended with status 3"), "{why}");
    Ok(())
}

pub fn settings_are_checked_and_changed() -> anyhow::Result<()> {
    let controller = Controller::start("settings", &[])?;
    let port = port();
    controller.add_web(
        "web",
        port,
        &["scaling.min=2", "scaling.max=4", "rollout=manual"],
    )?;
    controller.wait_serving("web", 2)?;
    for (words, expected) in [
        (
            vec!["add", "web", "driver.kind=process"],
            "network: not set",
        ),
        (vec!["add", "Web"], "not the name of a pool"),
        (
            vec!["set", "none", "scaling.max=5"],
            "there is no pool none",
        ),
        (vec!["set", "web", "scaling.max=1"], "scaling.max"),
        (vec!["set", "web", "colour=red"], "there is no such setting"),
        (
            vec!["set", "web", "driver.kind=docker", "template.image=web:1"],
            "a pool keeps its driver",
        ),
        (
            vec!["set", "web", "network.port=9"],
            "instances keep their addresses",
        ),
        (
            vec!["set", "web", "check.kind=magic"],
            "there is no such probe",
        ),
    ] {
        let error = controller.pool(&words).unwrap_err().to_string();
        ensure!(error.contains(expected), "{words:?}: {error}");
    }
    let error = controller
        .add_web("other", port + 3, &[])
        .unwrap_err()
        .to_string();
    ensure!(error.contains("pool web has the ports"), "{error}");
    let error = controller
        .add_web("web", port + 1_000, &[])
        .unwrap_err()
        .to_string();
    ensure!(error.contains("there is a pool web already"), "{error}");
    let error = controller
        .pool(&[
            "add",
            "x",
            "driver.kind=exec",
            "driver.program=/bin/true",
            "network.port=9",
        ])
        .unwrap_err()
        .to_string();
    ensure!(error.contains("--exec-drivers"), "{error}");
    // Nothing has changed; then something does.
    let changed = controller.json(&["set", "web", "template.environment.A=b", "scaling.max=5"])?;
    assert_eq!(changed["settings"]["scaling"]["max"], 5);
    assert_eq!(changed["settings"]["scaling"]["min"], 2);
    assert_eq!(changed["generation"], 2);
    wait_for("instances of before", PATIENCE, || {
        let instances = controller.instances("web")?;
        Ok(instances
            .iter()
            .all(|one| one["current"] == false)
            .then_some(()))
    })?;
    Ok(())
}

pub fn changed_settings_replace_instances() -> anyhow::Result<()> {
    let controller = Controller::start("rollout", &[])?;
    controller.add_web("web", port(), &["scaling.min=4", "scaling.max=4"])?;
    let before = controller.wait_serving("web", 4)?;
    controller.pool(&["set", "web", "template.environment.VERSION=2"])?;
    let after = wait_for("all instances to be new", PATIENCE, || {
        let now = controller.instances("web")?;
        // One at a time.
        let serving = now.iter().filter(|one| is_serving(one)).count();
        assert!(serving >= 3, "{now:?}");
        let is_done = serving == 4 && now.iter().all(|one| one["current"] == true);
        ensure!(is_done, "{now:?}");
        Ok(Some(now))
    })?;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(old["endpoint"], new["endpoint"]);
        ensure!(old["name"] != new["name"], "{new:?}");
        let name = text(&new["name"]);
        let pid = controller.processes(&name)[0];
        let environment = std::fs::read_to_string(format!("/proc/{pid}/environ"))?;
        ensure!(environment.contains("VERSION=2"), "{environment}");
    }
    let why = controller.pool(&["why", "web"])?;
    ensure!(why.contains("replaced"), "{why}");
    Ok(())
}

pub fn a_busy_instance_is_highly_utilised() -> anyhow::Result<()> {
    let controller = Controller::start("busy", &[])?;
    // One is measured by its control group, of one a load source reads.
    controller.pool(&[
        "add",
        "spins",
        "driver.kind=process",
        &format!("network.port={}", port()),
        "template.program=/bin/sh",
        "template.arguments=['-c', 'while :; do :; done']",
        "template.cpu=0.2",
        "scaling.max=1",
    ])?;
    let port = port();
    let source = format!(
        "load=[{{kind='http-json', port={port}, path='/load', interval='500ms', values={{utilisation='/busy * 0.01'}}}}]"
    );
    controller.add_web("web", port, &["scaling.min=2", "scaling.max=2", &source])?;
    controller.add_web("idle", crate::fixture::port(), &["scaling.max=1"])?;
    for pool in ["web", "spins"] {
        wait_for("high utilisation", PATIENCE, || {
            let now = controller.instances(pool)?;
            let all = now.iter().all(|one| one["state"] == "HU");
            ensure!(all && !now.is_empty(), "{now:?}");
            Ok(Some(()))
        })?;
    }
    let scores = controller.instances("web")?;
    let cpu = scores[1]["score"]["cpu"].as_f64();
    ensure!(cpu.is_some_and(|cpu| (cpu - 0.95).abs() < 1e-6), "{cpu:?}");
    let idle = controller.instances("idle")?;
    assert_eq!(idle[0]["state"], "LU");
    let why = controller.pool(&["why", "web"])?;
    ensure!(why.contains("95.00 %"), "{why}");
    ensure!(why.contains("web-1, web-2"), "{why}");
    Ok(())
}

pub fn a_pool_scales_by_the_requests_of_its_proxies() -> anyhow::Result<()> {
    let controller = Controller::start("requests", &[])?;
    controller.add_web(
        "web",
        port(),
        &[
            "scaling.min=2",
            "scaling.max=6",
            "scaling.requests=100",
            "scaling.requests_over=10s",
            "scaling.load_over=5s",
            "scaling.surge_over=2s",
            "scaling.period=1s",
            "scaling.in_after=10s",
            "scaling.in_every=1s",
            "scaling.drain_natural=0ms",
            // These reports do not count open requests.
            "scaling.drain_deadline=2s",
            "scaling.start_up=1s",
            "scaling.policies=['requests']",
        ],
    )?;
    controller.wait_serving("web", 2)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = |requests: f64| {
        runtime.block_on(async {
            let mut client = client(&controller).await?;
            client
                .report_demand(lb_proto::controller::v1::ReportDemandRequest {
                    pool: "web".to_owned(),
                    requests,
                    ..Default::default()
                })
                .await?;
            anyhow::Ok(())
        })
    };
    // 50 requests a second are 500 in 10 s: five instances.
    let grown = wait_for("the pool to grow", PATIENCE, || {
        report(50.0)?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        let serving = controller.instances("web")?;
        let serving = serving.iter().filter(|one| is_serving(one)).count();
        Ok((serving >= 5).then_some(serving))
    })?;
    println!("{grown} instances for 50 requests/s");
    let why = controller.pool(&["why", "web"])?;
    ensure!(why.contains("requests"), "{why}");
    wait_for("the pool to shrink", PATIENCE * 2, || {
        report(5.0)?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        Ok((controller.instances("web")?.len() == 2).then_some(()))
    })?;
    ensure!(
        controller.running().len() == 2,
        "{:?}",
        controller.running()
    );
    Ok(())
}

type Client =
    lb_proto::controller::v1::controller_client::ControllerClient<tonic::transport::Channel>;

async fn client(controller: &Controller) -> anyhow::Result<Client> {
    let path = controller.folder().join("api.sock");
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = tonic::transport::Channel::from_static("http://controller")
        .connect_with_connector(connector)
        .await?;
    Ok(Client::new(channel))
}

pub fn what_a_grpc_client_can_take_is_limited() -> anyhow::Result<()> {
    use lb_proto::controller::v1::{AddPoolRequest, WatchPoolsRequest};
    /// Streams that all clients together can have, and those of one connection, which has a call to spare.
    const STREAMS: usize = 256;
    const OF_CONNECTION: usize = 100;
    let controller = Controller::start("grpc", &[])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut streams = Vec::new();
        let mut connected = client(&controller).await?;
        for number in 0..STREAMS {
            if number % OF_CONNECTION == 0 {
                connected = client(&controller).await?;
            }
            let stream = connected.watch_pools(WatchPoolsRequest::default()).await?;
            streams.push(stream.into_inner());
        }
        let refused = connected.watch_pools(WatchPoolsRequest::default()).await;
        let refused = refused.err().context("one stream too many")?;
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        // A request that is too large is refused, too.
        let request = AddPoolRequest {
            name: "x".repeat(300 << 10),
            ..AddPoolRequest::default()
        };
        let refused = connected.add_pool(request).await;
        let refused = refused.err().context("a request that is too large")?;
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("bytes"), "{refused}");
        // Others are served all the same, and a stream that ends makes room.
        let list = controller.pool(&["list"])?;
        ensure!(list.contains("there are no pools"), "{list}");
        drop(streams.pop());
        let patience = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = connected.watch_pools(WatchPoolsRequest::default()).await {
            ensure!(tokio::time::Instant::now() < patience, "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    })
}

pub fn a_watcher_that_was_away_misses_nothing() -> anyhow::Result<()> {
    use lb_proto::controller::v1::{WatchPoolsRequest, watch_pools_response::Change};
    let controller = Controller::start("watch", &[])?;
    controller.add_web("web", port(), &["scaling.min=1", "scaling.max=8"])?;
    controller.wait_serving("web", 1)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut client = client(&controller).await?;
        // Everything, by a watcher that stays.
        let request = WatchPoolsRequest::default();
        let mut stays = client.watch_pools(request).await?.into_inner();
        let stays = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Ok(Some(message)) = stays.message().await {
                match message.change {
                    Some(Change::Event(event)) => events.push((event.revision, event.kind)),
                    Some(Change::Deleted(_)) => break,
                    _ => {}
                }
            }
            events
        });
        // And by one whose stream is cut after every event.
        let (mut revision, mut seen, mut first) = (0, Vec::new(), None);
        let mut is_deleted = false;
        for step in 0..5_000 {
            if step == 0 {
                controller.pool(&["scale", "web", "4"])?;
            } else if !is_deleted {
                let instances = controller.instances("web")?;
                if instances.iter().filter(|one| is_serving(one)).count() == 4 {
                    controller.pool(&["del", "web"])?;
                    is_deleted = true;
                }
            }
            let request = WatchPoolsRequest {
                since_revision: revision,
                ..Default::default()
            };
            let mut stream = client.watch_pools(request).await?.into_inner();
            let mut pools = BTreeSet::new();
            loop {
                match stream.message().await?.and_then(|message| message.change) {
                    Some(Change::Event(event)) => {
                        revision = event.revision;
                        seen.push((event.revision, event.kind));
                    }
                    Some(Change::Pool(pool)) => {
                        pools.insert(pool.name);
                    }
                    Some(Change::SnapshotEnd(end)) => {
                        ensure!(end.resumed || revision == 0, "the stream was not resumed");
                        first.get_or_insert(end.revision);
                        revision = end.revision.max(revision);
                        break;
                    }
                    Some(Change::Deleted(_)) | None => break,
                }
            }
            if is_deleted && pools.is_empty() {
                break;
            }
            ensure!(step < 4_999, "the pool does not grow or go");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let all = stays.await?;
        let since = first.unwrap_or_default();
        let expected: Vec<_> = all.into_iter().filter(|(at, _)| *at > since).collect();
        let last = expected.last().map_or(0, |(at, _)| *at);
        seen.retain(|(at, _)| *at <= last);
        assert_eq!(seen, expected);
        ensure!(seen.len() > 10, "{seen:?}");
        Ok(())
    })
}
