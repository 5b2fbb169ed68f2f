//! Counters, flows and status.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn counters_flows_and_status_are_told() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2", "10.1.0.3"]).await;
    agent
        .plane
        .tables()
        .unreachable
        .push("10.1.0.3".parse().unwrap());
    let stats = agent
        .client
        .get_stats(v1::GetStatsRequest { id: id() })
        .await
        .unwrap()
        .into_inner();
    let vip = &stats.vips[0];
    assert_eq!((vip.dropped_packets, vip.counters.unwrap().packets), (1, 2));
    assert_eq!(vip.reals[1].counters.unwrap().bytes, 120);
    let signs = vip.reals[1].signs.as_ref().unwrap();
    assert_eq!((signs.opened, signs.repeated_syns, signs.resets), (9, 2, 1));
    assert_eq!((signs.lives.len(), signs.lives[4]), (16, 3));
    let median = prost_types::Duration {
        seconds: 0,
        nanos: 12 << 20,
    };
    assert_eq!(signs.median_life, Some(median));
    assert_eq!(
        (vip.reals[0].state(), vip.reals[1].state()),
        (v1::RealState::Active, v1::RealState::Unreachable)
    );
    let reasons = &stats.interfaces[0].reasons;
    assert!(
        reasons
            .iter()
            .any(|count| (count.reason.as_str(), count.verdict.as_str()) == ("not_ip", "pass"))
    );

    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 100_000_000,
    });
    let mut stream = agent
        .client
        .watch_stats(v1::WatchStatsRequest { id: None, interval })
        .await
        .unwrap()
        .into_inner();
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().unwrap().vips.len(), 1);
    }
    drop(stream);
    let interval = Some(prost_types::Duration {
        seconds: 0,
        nanos: 99_000_000,
    });
    let status = agent
        .client
        .watch_stats(v1::WatchStatsRequest { id: None, interval })
        .await
        .unwrap_err();
    assert_eq!(field(&status), "interval");

    let flows = agent
        .client
        .list_flows(v1::ListFlowsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .reals;
    assert_eq!(
        (
            flows.len(),
            flows[0].flows,
            flows[0].entries,
            flows[0].exact
        ),
        (2, 5, 2, false)
    );
    let status = agent
        .client
        .get_status(v1::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            status.vips,
            status.reals,
            status.interfaces[0].xdp_mode.as_str()
        ),
        (1, 2, "native")
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_counters_share_one_reading() {
    const STREAMS: u64 = 20;
    const MESSAGES: u64 = 4;
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2", "10.1.0.3"]).await;
    let before = agent.plane.tables().reads;
    let begin = Instant::now();
    let interval = Some(prost_types::Duration {
        seconds: 1,
        nanos: 0,
    });
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        // Of all VIPs, or of one: it is the same reading.
        let id = if number % 2 == 0 { None } else { id() };
        let request = v1::WatchStatsRequest { id, interval };
        let stream = agent.client.watch_stats(request).await.unwrap();
        streams.push(stream.into_inner());
    }
    for _ in 0..MESSAGES {
        for stream in &mut streams {
            let stats = stream.next().await.unwrap().unwrap();
            assert_eq!(stats.vips[0].reals.len(), 2);
        }
    }
    let reads = agent.plane.tables().reads - before;
    // A reading is shared for half a second, so there is no more than one in each, however slow this machine is.
    let most = begin.elapsed().as_millis() as u64 / 500 + 1;
    assert!(
        reads <= most,
        "{reads} readings for {STREAMS} streams of {MESSAGES} messages, at most {most} are due"
    );
    drop(streams);
    agent.end().await;
}
