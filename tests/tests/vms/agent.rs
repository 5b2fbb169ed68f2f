//! The agent in a guest: XDP on the machine's own interface.

use std::{fs, net::SocketAddr};

use anyhow::{Context as _, ensure};
use lb_model::pool::{Launch, Size, Vm};
use lb_tests::{
    Network, Real,
    client::{get, udp_exchange},
    server::{Nginx, UdpEcho},
    wait_for,
};
use serde_json::Value;

use crate::bed::{ADDRESSES, Hypervisor, PATIENCE, machine, vm};

const VIP: &str = "192.0.2.80";

pub fn an_agent_in_a_guest_forwards_by_xdp() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let hypervisor = Hypervisor::new(&network, "agent")?;
    let mut servers = Vec::new();
    let mut reals = String::new();
    for _ in 0..2 {
        let host = network.real()?;
        let real = Real::start(&host, "eth0", &[VIP])?;
        let web = Nginx::start(&host, 80)?;
        let echo = UdpEcho::start(&host, SocketAddr::new(VIP.parse()?, 7))?;
        reals += &format!("[[vip.real]]\naddress = \"{}\"\n", host.v4);
        servers.push((real, web, echo, host));
    }
    let volume = hypervisor.folder.path().join("volume");
    fs::create_dir(&volume)?;
    fs::write(
        volume.join("agent.toml"),
        format!(
            "interfaces = [\"eth0\"]\nxdp_mode = \"native\"\nstate = \"/run/lb\"\n\
             [[vip]]\naddress = \"{VIP}:80/tcp\"\n{reals}[[vip]]\naddress = \"{VIP}:7/udp\"\n{reals}"
        ),
    )?;
    let launch = Launch {
        vm: Some(Vm {
            ram: Size(512 << 20),
            ..vm("initrd")
        }),
        program: Some("/programs/lb-agent".into()),
        arguments: ["run", "--config", "/etc/lb/agent.toml"]
            .map(str::to_owned)
            .to_vec(),
        volume: Some((volume, "/etc/lb".into())),
        ..machine("agent-1-1", Some(ADDRESSES[0]), "")
    };
    let name = &launch.name;
    hypervisor.start(&launch)?;
    hypervisor.wait_printed(name, "ready")?;
    let route = format!("ip route replace 192.0.2.0/24 via {}", ADDRESSES[0]);
    client.sh(&route)?;
    let target = SocketAddr::new(VIP.parse()?, 80);
    wait_for("an answer by the guest", PATIENCE, || {
        Ok(Some(get(client.namespace(), target, "/")?))
    })
    .with_context(|| hypervisor.console(name))?;
    let mut answered: Vec<String> = Vec::new();
    for _ in 0..20 {
        let (server, text) = get(client.namespace(), target, "/")?;
        // The real sees the client's address, and has answered it itself.
        ensure!(text.contains(&client.v4.to_string()), "{text}");
        answered.push(server);
    }
    answered.sort();
    answered.dedup();
    let labels: Vec<&str> = servers.iter().map(|(.., host)| host.label()).collect();
    assert_eq!(answered, labels, "both reals serve");
    for _ in 0..4 {
        let target = SocketAddr::new(VIP.parse()?, 7);
        // A guest that is emulated may be late.
        let answer = wait_for("an echo through the guest", PATIENCE, || {
            Ok(Some(udp_exchange(client.namespace(), 0, target, b"hello")?))
        })?;
        ensure!(answer.ends_with(b" hello"), "{answer:?}");
    }
    // The packets went through the program in the guest, in its driver.
    let status = hypervisor.exec(name, "lbctl status -o json")?;
    let status: Value = serde_json::from_slice(&status.stdout)
        .with_context(|| format!("{status:?}: {}", hypervisor.console(name)))?;
    let text = status.to_string();
    ensure!(text.contains("native"), "{text}");
    let stats = hypervisor.exec(name, &format!("lbctl stats {VIP}:80/tcp -o json"))?;
    let stats: Value = serde_json::from_slice(&stats.stdout)?;
    let packets = stats["vips"][0]["packets"].as_u64().unwrap_or_default();
    ensure!(packets >= 60, "{stats}");
    hypervisor.run(async { Ok(hypervisor.driver.remove(name).await?) })
}
