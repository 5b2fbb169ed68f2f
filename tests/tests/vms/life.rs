//! Making, starting, pausing, stopping and removing machines.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use anyhow::ensure;
use lb_drivers::{ErrorCode, Phase};
use lb_model::pool::{DiskFormat, Launch, Vm};
use lb_tests::{Network, client, wait_for};

use crate::bed::{ADDRESSES, Hypervisor, PATIENCE, WEB, machine, vm, wait_page, with_leg, write};

/// A grace period that no machine needs.
const LONG: Duration = Duration::from_secs(60);

pub fn a_machine_lives_as_an_instance_does() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let mut hypervisor = Hypervisor::new(&network, "life")?;
    let launch = with_leg(machine("web-1-1", Some(ADDRESSES[0]), WEB), "10.20.0.11");
    let name = &launch.name;
    hypervisor.start(&launch)?;
    let (page, after) = wait_page(&client, ADDRESSES[0])?;
    wait_page(&hypervisor.host, "10.20.0.11")?;
    println!("a machine that boots answers after {after:?}");
    assert_eq!(page, "web-1-1");
    let listed = hypervisor.find(name)?.unwrap();
    assert_eq!((listed.phase, listed.fault), (Phase::Running, None));
    assert_eq!(listed.labels["team"], "shop");
    let pid = hypervisor.pid(name)?;
    let output = hypervisor.exec(name, "cat; echo $COLOUR $LB_INSTANCE; exit 7")?;
    assert_eq!(
        (
            output.status,
            String::from_utf8_lossy(&output.stdout).as_ref()
        ),
        (7, "blue web-1-1\n")
    );
    // Paused, it does not answer, and goes on as it was.
    hypervisor.run(async { Ok(hypervisor.driver.pause(name).await?) })?;
    assert_eq!(hypervisor.phase(name)?, Phase::Paused);
    let target = SocketAddr::new(ADDRESSES[0].parse()?, 80);
    client::unanswered(client.namespace(), target)?;
    hypervisor.run(async { Ok(hypervisor.driver.resume(name).await?) })?;
    wait_page(&client, ADDRESSES[0])?;
    // The controller is killed, and its next run finds the machine; what somebody took away meanwhile is a fault.
    hypervisor.open_again()?;
    assert_eq!(hypervisor.phase(name)?, Phase::Running);
    let ports = hypervisor.host.sh("ip -o link show master br0")?;
    let port = ports
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .find(|port| !port.starts_with("eth0"))
        .unwrap();
    hypervisor
        .host
        .sh(&format!("ip link set {port} nomaster"))?;
    let fault = hypervisor.find(name)?.unwrap().fault.unwrap_or_default();
    ensure!(fault.contains("not connected"), "{fault}");
    hypervisor.start(&launch)?;
    assert_eq!(hypervisor.find(name)?.unwrap().fault, None);
    assert_eq!(hypervisor.pid(name)?, pid);
    wait_page(&client, ADDRESSES[0])?;
    // It is powered off, and its program with it, by its own way.
    hypervisor.run(async { Ok(hypervisor.driver.stop(name, LONG).await?) })?;
    ensure!(matches!(hypervisor.phase(name)?, Phase::Ended { .. }));
    hypervisor.run(async { Ok(hypervisor.driver.reboot(name, LONG).await?) })?;
    assert_eq!(wait_page(&client, ADDRESSES[0])?.0, "web-1-1");
    hypervisor.run(async { Ok(hypervisor.driver.remove(name).await?) })?;
    assert_eq!(hypervisor.find(name)?, None);
    let left = hypervisor.host.sh("ip -o link show type tun")?;
    assert_eq!(left, "");
    Ok(())
}

pub fn a_machine_has_a_disk_of_its_own_and_is_told_who_it_is() -> anyhow::Result<()> {
    let network = Network::new()?;
    let hypervisor = Hypervisor::new(&network, "disk")?;
    let folder = hypervisor.folder.path();
    let base = folder.join("base.raw");
    fs::write(&base, format!("the image{}", " ".repeat(1 << 20)))?;
    let before = fs::read(&base)?;
    let user_data = write(folder, "user-data", "#cloud-config\nhostname: shop\n")?;
    let volume = folder.join("volume");
    fs::create_dir(&volume)?;
    write(&volume, "greeting", "hello\n")?;
    let script = "head -c 9 /dev/vda; echo; echo mine | dd of=/dev/vda conv=notrunc 2>/dev/null; sync; \
        cat /etc/lb/greeting; head -c 2000000 /dev/vdb | strings | grep -E 'CIDATA|instance-id|hostname: shop|10.10.60.12'; echo done; \
        sleep 1000";
    let launch = Launch {
        vm: Some(Vm {
            disk: Some(base.clone()),
            disk_format: DiskFormat::Raw,
            user_data: Some(user_data),
            ..vm("initrd-bare")
        }),
        volume: Some((volume, "/etc/lb".into())),
        ..machine("web-1-1", Some(ADDRESSES[1]), script)
    };
    hypervisor.start(&launch)?;
    hypervisor.wait_printed(&launch.name, "done")?;
    let console = hypervisor.console(&launch.name);
    for words in [
        "the image",
        "hello",
        "CIDATA",
        "instance-id: web-1-1",
        "hostname: shop",
        "10.10.60.12/16",
    ] {
        ensure!(console.contains(words), "{words}: {console}");
    }
    // What it has written stays its own, and is there when it starts again.
    assert!(fs::read(&base)? == before, "the image has changed");
    hypervisor.run(async {
        Ok(hypervisor
            .driver
            .reboot(&launch.name, Duration::ZERO)
            .await?)
    })?;
    hypervisor.wait_printed(&launch.name, "mine")?;
    hypervisor.run(async { Ok(hypervisor.driver.remove(&launch.name).await?) })?;
    assert!(fs::read(&base)? == before, "the image has changed");
    Ok(())
}

pub fn a_port_of_the_host_leads_to_a_machine() -> anyhow::Result<()> {
    let network = Network::new()?;
    let hypervisor = Hypervisor::new(&network, "port")?;
    let launch = machine("web-1-1", None, WEB);
    hypervisor.start(&launch)?;
    let page = wait_for("a page", PATIENCE, || {
        let at = launch.endpoint;
        Ok(Some(client::page(hypervisor.host.namespace(), at, "/")?))
    })?;
    assert_eq!(page.trim(), "web-1-1");
    // Whoever kills it is seen, and so is that it ended.
    let pid = hypervisor.pid(&launch.name)?;
    let killed = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    ensure!(killed.success());
    wait_for("its end", PATIENCE, || {
        let phase = hypervisor.phase(&launch.name)?;
        Ok(matches!(phase, Phase::Ended { .. }).then_some(()))
    })?;
    hypervisor.run(async { Ok(hypervisor.driver.remove(&launch.name).await?) })?;
    Ok(())
}

pub fn what_cannot_be_made_is_refused() -> anyhow::Result<()> {
    let network = Network::new()?;
    let hypervisor = Hypervisor::new(&network, "refused")?;
    let good = || machine("web-1-1", Some(ADDRESSES[3]), WEB);
    let wrong = [
        (Launch { vm: None, ..good() }, "template.vm"),
        (
            Launch {
                vm: Some(Vm {
                    kernel: Some("/there/is/none".into()),
                    ..vm("initrd-bare")
                }),
                ..good()
            },
            "/there/is/none",
        ),
        (
            Launch {
                memory: Some(128 << 20),
                ..good()
            },
            "template.memory",
        ),
        (
            Launch {
                user: Some((1, None)),
                ..good()
            },
            "template.user",
        ),
    ];
    for (launch, words) in wrong {
        let error =
            hypervisor.run(async { Ok(hypervisor.driver.create(&launch).await.unwrap_err()) })?;
        assert_eq!(error.code(), ErrorCode::Invalid, "{error}");
        ensure!(error.to_string().contains(words), "{error}");
    }
    let listed = hypervisor.run(async { Ok(hypervisor.driver.list().await?) })?;
    assert_eq!(listed, []);
    // A bridge that is not there: nothing runs.
    let mut launch = good();
    if let lb_model::pool::Network::Bridge(attachment) = &mut launch.network {
        attachment.bridge = "br-none".to_owned();
    }
    let error = hypervisor.start(&launch).unwrap_err();
    ensure!(error.to_string().contains("no bridge br-none"), "{error}");
    hypervisor.run(async { Ok(hypervisor.driver.remove(&launch.name).await?) })?;
    Ok(())
}
