//! gRPC.

use std::{collections::HashSet, time::Duration};

use lb_proto::v1::{self, load_report_client::LoadReportClient};
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::reporter::Reporter;

/// A reporter on TCP and on a Unix socket in a folder of its own.
fn start() -> (Reporter, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("report.sock").display());
    let reporter = Reporter::start(&[
        "--listen",
        "http://127.0.0.1:0",
        &socket,
        "--interval",
        "100ms",
    ]);
    assert_eq!(reporter.ready[1], socket);
    (reporter, folder)
}

async fn connect(endpoint: &str) -> Channel {
    Endpoint::new(endpoint.to_owned())
        .unwrap()
        .timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn reports_are_got_over_tcp_and_unix_sockets() {
    let (mut reporter, folder) = start();
    for endpoint in reporter.ready.clone() {
        let mut client = LoadReportClient::new(connect(&endpoint).await);
        let report = client
            .get(v1::GetLoadRequest {})
            .await
            .unwrap()
            .into_inner();
        assert!(
            report.cpu.is_some_and(|cpu| (0.0..=1.0).contains(&cpu)),
            "{report:?}"
        );
        assert!(
            report
                .memory
                .is_some_and(|part| (0.0..=1.0).contains(&part)),
            "{report:?}"
        );
        assert!(report.taken_at.is_some() && report.over.is_some());
        assert_ne!(report.source(), v1::ReportSource::Unspecified);
    }
    assert!(reporter.stop().success());
    assert!(!folder.path().join("report.sock").exists());
}

#[tokio::test]
async fn watchers_get_each_new_report_until_the_end() {
    let (mut reporter, _folder) = start();
    let mut client = LoadReportClient::new(connect(&reporter.ready[0]).await);
    let mut reports = client
        .watch(v1::WatchLoadRequest { interval: None })
        .await
        .unwrap()
        .into_inner();
    let mut taken = HashSet::new();
    for _ in 0..5 {
        let report = reports.message().await.unwrap().unwrap();
        let at = report.taken_at.unwrap();
        taken.insert((at.seconds, at.nanos));
    }
    assert_eq!(taken.len(), 5, "each is another");

    let long = v1::WatchLoadRequest {
        interval: Some(Duration::from_secs(61).try_into().unwrap()),
    };
    let refused = client.watch(long).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    assert!(reporter.stop().success());
    while let Ok(Some(_)) = reports.message().await {}
}

#[tokio::test]
async fn health_and_reflection_tell_of_the_service() {
    let (reporter, _folder) = start();
    let channel = connect(&reporter.ready[0]).await;
    let request = HealthCheckRequest {
        service: "lb.v1.LoadReport".to_owned(),
    };
    let health = HealthClient::new(channel.clone())
        .check(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);

    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(ask))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}");
    };
    assert!(
        list.service
            .iter()
            .any(|service| service.name == "lb.v1.LoadReport"),
        "{list:?}"
    );
}
