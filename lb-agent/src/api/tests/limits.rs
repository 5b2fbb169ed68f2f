//! What a client may have at once.

use super::*;
use crate::api::limits::{CALLS_PER_CONNECTION, MAX_CALLS, MAX_REQUEST};
use std::time::Duration;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;

/// Too short for an answer that may come.
const MOMENT: Duration = Duration::from_millis(200);

async fn status(client: &mut BalancerClient<Channel>) -> v1::Status {
    let answer = client.get_status(v1::GetStatusRequest {}).await;
    answer.unwrap().into_inner()
}

/// An `Apply` stream on which nothing is sent, and its sender.
async fn open_apply(
    client: &mut BalancerClient<Channel>,
) -> Result<(Streaming<v1::ApplyResponse>, Sender<v1::ApplyRequest>), Status> {
    let (sender, requests) = mpsc::channel(1);
    let responses = client.apply(ReceiverStream::new(requests)).await?;
    Ok((responses.into_inner(), sender))
}

#[tokio::test(flavor = "multi_thread")]
async fn open_calls_are_limited_on_a_connection_and_on_all() {
    let mut agent = Agent::start().await;
    let mut open = Vec::new();
    let mut connections = Vec::new();
    while open.len() < MAX_CALLS.calls {
        let mut client = BalancerClient::new(connect(&agent.socket).await);
        for _ in 0..(MAX_CALLS.calls - open.len()).min(CALLS_PER_CONNECTION as usize) {
            open.push(open_apply(&mut client).await.unwrap());
        }
        connections.push(client);
    }
    // The first connection has all of its calls: another one waits.
    let waiting = tokio::time::timeout(MOMENT, open_apply(&mut connections[0])).await;
    assert!(waiting.is_err());
    // On another connection it is refused, as there are enough on all.
    let refused = open_apply(&mut agent.client).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    open.clear();
    connections.clear();
    // A client that goes leaves nothing behind.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let last = loop {
        match agent.client.get_status(v1::GetStatusRequest {}).await {
            Ok(status) if status.get_ref().limits[0].used == 1 => break status.into_inner(),
            _ if std::time::Instant::now() > deadline => panic!("calls are still open"),
            _ => tokio::task::yield_now().await,
        }
    };
    let calls = &last.limits[0];
    assert_eq!(calls.limit, MAX_CALLS.calls as u64);
    assert!(calls.refused >= 1, "{calls:?}");
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_events_and_counters_are_limited() {
    let mut agent = Agent::start().await;
    let mut clients = vec![
        agent.client.clone(),
        BalancerClient::new(connect(&agent.socket).await),
    ];
    let mut open = Vec::new();
    for at in 0..MAX_CALLS.following {
        let watching = clients[at % 2].watch(v1::WatchRequest::default()).await;
        open.push(watching.unwrap().into_inner());
    }
    let refused = clients[0]
        .watch_stats(v1::WatchStatsRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    // Changes and questions go on.
    agent.with_reals(&["10.1.0.2"]).await;
    let limits = status(&mut agent.client).await.limits;
    assert_eq!(limits[2].used, MAX_CALLS.following as u64, "{limits:?}");
    drop(open);
    drop(clients);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_is_refused_and_a_plan_may_be_larger() {
    let mut agent = Agent::start().await;
    let text = format!("# {}\n", "x".repeat(MAX_REQUEST));
    let refused = agent
        .client
        .simulate(v1::SimulateRequest {
            packet: Vec::new(),
            interface: text.clone(),
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let plan = v1::PlanRequest {
        source: Some(v1::plan_request::Source::Configuration(text)),
        ..Default::default()
    };
    agent.client.plan(plan).await.unwrap();
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed() {
    let agent = Agent::start().await;
    let mut open = Vec::new();
    // The client of the agent is one.
    for _ in 1..lb_serve::MAX_CONNECTIONS {
        open.push(
            tokio::net::UnixStream::connect(&agent.socket)
                .await
                .unwrap(),
        );
    }
    let mut refused = tokio::net::UnixStream::connect(&agent.socket)
        .await
        .unwrap();
    let mut rest = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut refused, &mut rest);
    let read = tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .unwrap();
    assert_eq!(read.unwrap_or(0), 0);
    status(&mut agent.client.clone()).await;
    drop(open);
    agent.end().await;
}
