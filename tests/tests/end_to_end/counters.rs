//! Every frame is counted once.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_tests::{
    AgentOptions,
    client::{get, udp_exchange, unanswered},
    server::UdpEcho,
    wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Stand, every_real_answers, target};

/// A VIP without reals.
const EMPTY: &str = "192.0.2.11:80/tcp";

/// Frames that the kernel counts as received by the balancer's interface.
fn received(stand: &Stand) -> anyhow::Result<u64> {
    let text = stand
        .site
        .balancer
        .sh("ip -json -statistics link show eth0")?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    Ok(links[0]["stats64"]["rx"]["packets"].as_u64().unwrap())
}

/// Frames by reason, as the agent tells.
fn reasons(stand: &Stand) -> anyhow::Result<BTreeMap<String, u64>> {
    let stats = stand.agent.ctl_json("stats")?;
    let reasons = stats["interfaces"][0]["reasons"].as_array().unwrap();
    Ok(reasons
        .iter()
        .map(|reason| {
            let name = reason["reason"].as_str().unwrap().to_owned();
            (name, reason["frames"].as_u64().unwrap())
        })
        .collect())
}

#[test]
fn reasons_add_up_to_the_frames_received() {
    let stand = Stand::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default());
    // What came before the program was there is counted by the kernel only: a number that stays.
    let ahead = wait_for("a moment of silence", PATIENCE, || {
        let before = received(&stand)?;
        let counted: u64 = reasons(&stand)?.values().sum();
        Ok((received(&stand)? == before).then_some(before - counted))
    })
    .unwrap();

    stand.serve(HTTP_V4, "--forward ipip", false, &[100]);
    stand.serve(HTTP_V6, "--forward ipip", true, &[100]);
    stand.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    let balancer = &stand.site.balancer;
    for (vip, own) in [(HTTP_V4, balancer.v4), (HTTP_V6, balancer.v6)] {
        let echo = SocketAddr::new(own, 7);
        let _echo = UdpEcho::start(balancer, echo).unwrap();
        for _ in 0..50 {
            get(&stand.client, target(vip), "/").unwrap();
            udp_exchange(&stand.client, 0, echo, b"beside").unwrap();
        }
        every_real_answers(&stand.client, vip, &stand.names());
        for address in [own, target(vip).ip()] {
            stand
                .client
                .sh(&format!("ping -c 3 -i 0.2 -W 15 {address}"))
                .unwrap();
        }
        // Larger than a frame.
        stand
            .client
            .sh(&format!("ping -c 2 -i 0.2 -W 15 -s 4000 {own}"))
            .unwrap();
    }
    unanswered(&stand.client, target(EMPTY)).unwrap();

    // A frame is counted by the kernel when it is sent and by the program when it is taken up.
    let mut last = (0, BTreeMap::new());
    let equal = wait_for("counters to agree", PATIENCE, || {
        let before = received(&stand)?;
        last = (before - ahead, reasons(&stand)?);
        Ok((last.1.values().sum::<u64>() == last.0).then_some(()))
    });
    let (frames, reasons) = last;
    assert!(
        equal.is_ok(),
        "{frames} frames, {} counted: {reasons:#?}",
        reasons.values().sum::<u64>()
    );
    for reason in [
        "forwarded_tx",
        "echo_reply",
        "not_ip",
        "not_vip",
        "other_protocol",
        "fragment",
        "no_real",
    ] {
        assert!(
            reasons.get(reason).is_some_and(|frames| *frames > 0),
            "{reason}: {reasons:#?}"
        );
    }
}
