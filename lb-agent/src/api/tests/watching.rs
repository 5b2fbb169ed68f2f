//! Snapshots and changes.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn watching_gives_a_snapshot_and_then_changes() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    let mut events = agent
        .client
        .watch(v1::WatchRequest {
            id: None,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let mut next = async || events.next().await.unwrap().unwrap();
    assert!(matches!(next().await.event, Some(Event::Snapshot(vip)) if vip.reals.len() == 1));
    assert!(matches!(next().await.event, Some(Event::SnapshotEnd(_))));
    agent
        .client
        .update_real(update_real("10.1.0.2", Some(5), None, &[]))
        .await
        .unwrap();
    let event = next().await;
    assert!(
        event.cause.starts_with("UpdateReal by uid "),
        "{}",
        event.cause
    );
    let Some(Event::RealChanged(changed)) = event.event else {
        panic!("{event:?}")
    };
    let real = changed.real.unwrap();
    assert_eq!((changed.vip, real.effective_weight), (id(), 5));
    assert_eq!(real.flows, 5, "what the data plane says");
    agent
        .client
        .delete_vip(v1::DeleteVipRequest {
            id: id(),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(
        next().await.event,
        Some(Event::VipDeleted(vip_id("10.0.0.1")))
    );

    agent.stop.send(true).unwrap();
    assert_eq!(
        events.next().await.unwrap().unwrap_err().code(),
        Code::Unavailable
    );
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_does_not_read_is_ended() {
    let mut agent = Agent::start().await;
    agent.with_reals(&["10.1.0.2"]).await;
    // On a connection of its own: an unread stream holds up the others of its connection.
    // Its windows are small, so that the server notices soon.
    let channel = ChannelEndpoint::from_shared(format!("unix://{}", agent.socket.display()))
        .unwrap()
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535)
        .connect()
        .await
        .unwrap();
    let mut watcher = BalancerClient::new(channel);
    let mut events = watcher
        .watch(v1::WatchRequest {
            id: None,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    // More than all queues on the way hold together: the owner's, the stream's and HTTP/2's window.
    let request = |sequence: u64| v1::ApplyRequest {
        sequence,
        change: Some(v1::apply_request::Change::UpdateReal(update_real(
            "10.1.0.2",
            Some(u32::try_from(sequence % 2).unwrap() + 1),
            None,
            &[],
        ))),
    };
    let requests: Vec<_> = (0..20_000).map(request).collect();
    let responses = agent
        .client
        .apply(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        responses
            .filter(|response| response.as_ref().unwrap().code == 0)
            .count_all()
            .await,
        20_000
    );
    let end = loop {
        match events.next().await.expect("an end that says why") {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Aborted);
    assert!(end.message().contains("Watch again"), "{end}");
    agent.end().await;
}

/// `count` of a stream.
trait CountAll: tokio_stream::Stream + Sized + Unpin {
    async fn count_all(mut self) -> usize {
        let mut count = 0;
        while self.next().await.is_some() {
            count += 1;
        }
        count
    }
}

impl<S: tokio_stream::Stream + Unpin> CountAll for S {}
