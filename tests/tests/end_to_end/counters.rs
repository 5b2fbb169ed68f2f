//! Every frame is counted once.

use std::{collections::BTreeMap, net::SocketAddr};

use lb_tests::{
    AgentOptions,
    client::{get, udp_exchange, unanswered},
    server::UdpEcho,
    wait_for,
};

use crate::fixture::{HTTP_V4, HTTP_V6, PATIENCE, Testbed, every_real_answers, serve, target};

/// A VIP without reals.
const EMPTY: &str = "192.0.2.11:80/tcp";

/// Returns the frames that the kernel counts as received by the balancer's interface.
fn received(testbed: &Testbed) -> anyhow::Result<u64> {
    let text = testbed
        .network
        .balancer
        .sh("ip -json -statistics link show eth0")?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    Ok(links[0]["stats64"]["rx"]["packets"].as_u64().unwrap())
}

/// Returns the agent's counts of frames per reason.
fn reasons(testbed: &Testbed) -> anyhow::Result<BTreeMap<String, u64>> {
    let stats = testbed.agent.ctl_json("stats")?;
    let reasons = stats["interfaces"][0]["reasons"].as_array().unwrap();
    Ok(reasons
        .iter()
        .map(|reason| {
            let name = reason["reason"].as_str().unwrap().to_owned();
            (name, reason["frames"].as_u64().unwrap())
        })
        .collect())
}

pub fn reasons_add_up_to_the_frames_received() {
    let testbed = Testbed::new(2, &[HTTP_V4, HTTP_V6], AgentOptions::default()).unwrap();
    // Frames that arrived before the program was attached are counted by the kernel only; their number is constant.
    let ahead = wait_for("a moment of silence", PATIENCE, || {
        let before = received(&testbed)?;
        let counted: u64 = reasons(&testbed)?.values().sum();
        Ok((received(&testbed)? == before).then_some(before - counted))
    })
    .unwrap();

    serve(&testbed, HTTP_V4, "--forward ipip", false, &[100]);
    serve(&testbed, HTTP_V6, "--forward ipip", true, &[100]);
    testbed.agent.ctl(&format!("add-vip {EMPTY}")).unwrap();
    let balancer = &testbed.network.balancer;
    for (vip, own) in [(HTTP_V4, balancer.v4), (HTTP_V6, balancer.v6)] {
        let echo = SocketAddr::new(own, 7);
        let _echo = UdpEcho::start(balancer, echo).unwrap();
        for _ in 0..50 {
            get(&testbed.client, target(vip), "/").unwrap();
            udp_exchange(&testbed.client, 0, echo, b"beside").unwrap();
        }
        every_real_answers(&testbed.client, vip, &testbed.names());
        for address in [own, target(vip).ip()] {
            testbed
                .client
                .sh(&format!("ping -c 3 -i 0.2 -W 15 {address}"))
                .unwrap();
        }
        // Larger than a frame, so it is fragmented.
        testbed
            .client
            .sh(&format!("ping -c 2 -i 0.2 -W 15 -s 4000 {own}"))
            .unwrap();
    }
    unanswered(&testbed.client, target(EMPTY)).unwrap();

    // The kernel counts a frame when the peer sends it, the program when it is processed.
    let mut last = (0, BTreeMap::new());
    let equal = wait_for("counters to agree", PATIENCE, || {
        let before = received(&testbed)?;
        last = (before - ahead, reasons(&testbed)?);
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
