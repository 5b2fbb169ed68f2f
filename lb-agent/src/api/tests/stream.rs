//! Many changes on one stream.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_changes_is_answered_in_order() {
    let mut agent = Agent::start().await;
    use v1::apply_request::Change;
    let real = |last: u32| {
        Change::AddReal(add_real(
            &format!("10.1.{}.{}", last / 250, last % 250 + 1),
            None,
        ))
    };
    let mut changes = vec![Some(Change::AddVip(v1::AddVipRequest {
        id: id(),
        spec: None,
        ..Default::default()
    }))];
    changes.extend((0..500).map(|last| Some(real(last))));
    changes.push(Some(real(7)));
    changes.push(None);
    changes.push(Some(Change::DeleteReal(v1::DeleteRealRequest {
        vip: id(),
        address: "10.1.0.1".into(),
        ..Default::default()
    })));
    let count = changes.len();
    let requests = changes
        .into_iter()
        .zip(100..)
        .map(|(change, sequence)| v1::ApplyRequest { sequence, change });
    let requests: Vec<_> = requests.collect();
    let responses = agent
        .client
        .apply(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let responses: Vec<_> = responses.map(|response| response.unwrap()).collect().await;
    assert_eq!(
        responses
            .iter()
            .map(|response| response.sequence)
            .collect::<Vec<_>>(),
        (100..100 + count as u64).collect::<Vec<_>>()
    );
    let refused: Vec<_> = responses
        .iter()
        .filter(|response| response.code != 0)
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(refused[0].code, i32::from(Code::AlreadyExists));
    assert_eq!(refused[1].code, i32::from(Code::InvalidArgument));
    assert!(refused.iter().all(|response| !response.error.is_empty()));
    let vips = agent
        .client
        .list_vips(v1::ListVipsRequest { id: None })
        .await
        .unwrap()
        .into_inner()
        .vips;
    assert_eq!(vips[0].reals.len(), 499);
    let calls = agent.plane.tables().calls.len();
    assert!(
        calls < count,
        "services are not computed for each change: {calls} calls"
    );
    agent.end().await;
}
