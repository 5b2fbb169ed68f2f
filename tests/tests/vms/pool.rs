//! A pool of machines.

use std::fs;

use anyhow::{Context as _, ensure};
use lb_tests::{Controller, Network, guest, wait_for};

use crate::bed::{ADDRESSES, PATIENCE, wait_page};

pub fn a_pool_of_machines_serves() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let host = network.real()?;
    host.bridge()?;
    let name = lb_tests::owner("vms");
    let mut controller = Controller::start(Some(host.namespace()), &name, &[])?;
    let file = controller.folder().join("pool.toml");
    fs::write(
        &file,
        format!(
            r#"
driver.kind = "qemu"
check = {{ kind = "http", path = "/", interval = "1s" }}
scaling = {{ min = 2, max = 2 }}
network = {{ port = 80, bridge = "br0", range = "{}-{}/16", delivery = "address" }}
[template]
program = "/bin/sh"
arguments = ["-c", "mkdir -p /www; echo {{name}} >/www/index.html; exec httpd -f -p 80 -h /www"]
start_deadline = "90s"
[template.vm]
kernel = "{}"
initrd = "{}"
"#,
            ADDRESSES[0],
            ADDRESSES[1],
            guest("vmlinuz").display(),
            guest("initrd-bare").display(),
        ),
    )?;
    controller.pool(&["add", "web", "-f", &file.display().to_string()])?;
    let serving = |controller: &Controller| {
        wait_for("two machines that serve", PATIENCE, || {
            let instances = controller.instances("web")?;
            let serving = instances
                .iter()
                .filter(|one| matches!(one["state"].as_str(), Some("LU" | "MU" | "HU")));
            ensure!(serving.count() == 2, "{instances:?}");
            Ok(Some(instances))
        })
        .with_context(|| controller.output())
    };
    let before = serving(&controller)?;
    for (number, address) in [(1, ADDRESSES[0]), (2, ADDRESSES[1])] {
        let (page, _) = wait_page(&client, address)?;
        ensure!(page.starts_with(&format!("web-{number}-")), "{page}");
    }
    // The controller is killed under them; its next run finds them.
    controller.kill()?;
    wait_page(&client, ADDRESSES[0])?;
    controller.run()?;
    let after = serving(&controller)?;
    let names = |instances: &[serde_json::Value]| -> Vec<String> {
        instances
            .iter()
            .map(|one| one["name"].to_string())
            .collect()
    };
    assert_eq!(names(&after), names(&before));
    // An operator suspends one, which keeps its place, and lets it go on.
    let first = before[0]["name"].as_str().unwrap().to_owned();
    controller.lbctl("instance", &["suspend", &first])?;
    let phase = |wanted: &str| {
        wait_for(wanted, PATIENCE, || {
            let instances = controller.instances("web")?;
            let found = instances.iter().find(|one| one["name"] == first.as_str());
            let phase = found.map(|one| one["phase"].clone());
            ensure!(
                phase.as_ref().is_some_and(|phase| phase == wanted),
                "{instances:?}"
            );
            Ok(Some(()))
        })
        .with_context(|| controller.output())
    };
    phase("paused")?;
    let process = host.sh("ip -o link show type tun")?;
    ensure!(
        process.lines().count() == 1,
        "its QEMU has ended: {process}"
    );
    controller.lbctl("instance", &["resume", &first])?;
    let after = serving(&controller)?;
    assert_eq!(names(&after), names(&before));
    // It is rebooted, and is the same instance.
    let pid = controller
        .state()
        .join("qemu")
        .join(&first)
        .join("qemu.pid");
    let pid_before = fs::read_to_string(&pid)?;
    controller.lbctl("instance", &["reboot", &first])?;
    wait_for("another QEMU", PATIENCE, || {
        ensure!(fs::read_to_string(&pid)? != pid_before);
        Ok(Some(()))
    })
    .with_context(|| controller.output())?;
    let after = serving(&controller)?;
    assert_eq!(names(&after), names(&before));
    let logs = controller.pool(&["logs", before[0]["name"].as_str().unwrap()])?;
    println!("{logs}");
    controller.pool(&["del", "web"])?;
    wait_for("the end of the machines", PATIENCE, || {
        let left = host.sh("ip -o link show type tun")?;
        ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })
    .with_context(|| controller.output())
}
