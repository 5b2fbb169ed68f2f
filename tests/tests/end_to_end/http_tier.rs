//! `lb-proxy` in front of the reals of a VIP: the agent's health and weights decide which of them get requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use lb_tests::{
    AgentOptions, Process, binary,
    client::{Connections, HttpPlan, get, http_load},
    wait_for,
};

use crate::fixture::{HTTP_V4, PATIENCE, Testbed, assert_no_failure, serve};

const PORT: u16 = 8080;
const ADMIN: u16 = 9470;

/// Starts a proxy on the balancer's host whose instances are the VIP's reals.
fn start(testbed: &Testbed, folder: &tempfile::TempDir) -> (Process, SocketAddr) {
    let address = SocketAddr::new(testbed.network.balancer.v4, PORT);
    let admin = SocketAddr::new(testbed.network.balancer.v4, ADMIN);
    let file = folder.path().join("proxy.toml");
    let text = format!(
        "admin = \"{admin}\"\n[[listener]]\naddress = \"{address}\"\n[[route]]\nservice = \"web\"\n[[service]]\nname = \"web\"\n\
         choice = \"round-robin\"\nvip = \"{HTTP_V4}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let arguments = [
        "run".to_owned(),
        "--config".to_owned(),
        file.display().to_string(),
        "--agent".to_owned(),
        testbed.agent.endpoint(),
    ];
    let balancer = testbed.network.balancer.namespace();
    let program = binary("lb-proxy").unwrap();
    let mut process = balancer.start("lb-proxy", program, arguments).unwrap();
    process.wait_line("lb-proxy:", "ready", PATIENCE).unwrap();
    (process, address)
}

/// Waits until requests are answered by exactly these.
fn answered_by(testbed: &Testbed, target: SocketAddr, names: &BTreeSet<String>) {
    wait_for("answers of these reals only", PATIENCE, || {
        // In turn: each real answers three of these.
        let mut seen = BTreeSet::new();
        for _ in 0..3 * names.len() {
            match get(&testbed.client, target, "/") {
                Ok((server, _)) => drop(seen.insert(server)),
                Err(_) => return Ok(None),
            }
        }
        Ok((seen == *names).then_some(()))
    })
    .unwrap();
}

pub fn a_proxy_follows_the_reals_of_a_vip() {
    let mut testbed = Testbed::new(3, &[HTTP_V4], AgentOptions::default()).unwrap();
    serve(&testbed, HTTP_V4, "", false, &[100]);
    let folder = tempfile::tempdir().unwrap();
    let (mut proxy, target) = start(&testbed, &folder);
    let all = testbed.names();
    answered_by(&testbed, target, &all);

    // Equal weights, equal counts: each real gets a third of the requests.
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..30 {
        let (server, _) = get(&testbed.client, target, "/").unwrap();
        *counts.entry(server).or_default() += 1;
    }
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10; 3]);

    // No request fails while reals are drained and come back, and the agent is killed and starts again.
    let load = http_load(
        &testbed.client,
        HttpPlan {
            target,
            workers: 4,
            connections: Connections::Kept,
            pause: Duration::from_millis(5),
            requests: None,
        },
    );
    let drained = testbed.backends[0].address();
    let rest: BTreeSet<String> = testbed.backends[1..]
        .iter()
        .map(|backend| backend.host.label().to_owned())
        .collect();
    testbed.lbctl(&["drain", HTTP_V4, &drained]).unwrap();
    answered_by(&testbed, target, &rest);
    testbed.agent.kill().unwrap();
    answered_by(&testbed, target, &rest);
    testbed.agent.run().unwrap();
    testbed.lbctl(&["undrain", HTTP_V4, &drained]).unwrap();
    answered_by(&testbed, target, &all);

    // What the proxy sees of the reals is a load source of the agent.
    let source = format!(
        "http-json name=proxy address={} port={ADMIN} path=/v1/load/web/{{real}} interval=1s latency=/latency",
        testbed.network.balancer.v4
    );
    testbed
        .lbctl(&["set-vip", HTTP_V4, "--load", &source])
        .unwrap();
    wait_for("the latency that the proxy measured", PATIENCE, || {
        let why = testbed.why(HTTP_V4, &drained)?;
        let readings = why["readings"].as_array().cloned().unwrap_or_default();
        let is_it = |reading: &serde_json::Value| {
            reading["quantity"] == "latency" && reading["value"].as_f64() > Some(0.0)
        };
        Ok(readings.iter().any(is_it).then_some(()))
    })
    .unwrap();
    // Without the agent the reals stay as they were, and operators see that.
    testbed.agent.kill().unwrap();
    let balancer = testbed.network.balancer.namespace();
    let list = || {
        let program = binary("lbctl").unwrap().display().to_string();
        let admin = format!("{}:{ADMIN}", testbed.network.balancer.v4);
        balancer.run([
            program,
            "http".to_owned(),
            "--proxy".to_owned(),
            admin,
            "list".to_owned(),
        ])
    };
    let warning = "warning: service web: the source of its instances is not followed since";
    wait_for("the warning", PATIENCE, || {
        Ok(list()?.contains(warning).then_some(()))
    })
    .unwrap();
    answered_by(&testbed, target, &all);
    testbed.agent.run().unwrap();
    wait_for("its end", PATIENCE, || {
        Ok((!list()?.contains("warning: ")).then_some(()))
    })
    .unwrap();
    let report = load.stop().unwrap();
    assert_no_failure(&report);
    operators_see_the_proxy(&testbed, &drained);
    proxy.stop().unwrap();
}

/// `lbctl http`, typed on the proxy's host.
fn operators_see_the_proxy(testbed: &Testbed, real: &str) {
    let balancer = testbed.network.balancer.namespace();
    let admin = SocketAddr::new(testbed.network.balancer.v4, ADMIN).to_string();
    let type_in = |line: &str| {
        let program = binary("lbctl").unwrap().display().to_string();
        let words = line.split_whitespace().map(str::to_owned);
        let words = [
            program,
            "http".to_owned(),
            "--proxy".to_owned(),
            admin.clone(),
        ]
        .into_iter()
        .chain(words);
        balancer.run(words)
    };
    let list = type_in("list").unwrap();
    assert!(list.contains("web"), "{list}");
    assert!(!list.contains("warning: "), "{list}");
    assert!(
        list.contains("round-robin") && list.contains("3/3"),
        "{list}"
    );
    let list = type_in("reload").unwrap();
    assert!(list.contains("3/3"), "{list}");
    let stats = type_in("stats web -o json").unwrap();
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    let instances = stats[0]["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 3, "{stats:#}");
    let why = type_in(&format!("why web {real}:80")).unwrap();
    // It came back a moment ago.
    assert!(
        why.contains("% of the weights") && !why.contains("100.00 %"),
        "{why}"
    );
    let unknown = type_in("why web 192.0.2.99:80").unwrap_err();
    assert!(format!("{unknown:#}").contains("`lbctl http stats web` lists them"));
    assert!(why.contains("choice round-robin"), "{why}");
    let refused = |line: &str| format!("{:#}", type_in(line).unwrap_err());
    let unknown = refused("why nonsense");
    assert!(
        unknown.contains("`lbctl http list` lists them"),
        "{unknown}"
    );
    // The file is changed with what the proxy serves.
    let added = type_in(&format!(
        "add shop choice=random cache.items=10 --member {real}:80"
    ));
    assert!(added.as_ref().unwrap().contains("shop"), "{added:?}");
    let routed = type_in("route shop --host shop.test --path /buy").unwrap();
    assert!(
        routed.contains("shop.test") && routed.contains("/buy"),
        "{routed}"
    );
    let twice = refused("add shop");
    assert!(twice.contains("there is a service shop already"), "{twice}");
    let used = refused("del shop");
    assert!(used.contains("a route names service shop"), "{used}");
    type_in("unroute --host shop.test --path /buy").unwrap();
    let removed = type_in("del shop").unwrap();
    assert!(!removed.contains("shop"), "{removed}");
    let no_cache = refused("purge web --prefix http://web/");
    assert!(no_cache.contains("service web has no cache"), "{no_cache}");
}
