//! Health, reflection and endpoints.

use super::*;
use lb_serve::{Endpoint, ListenError, Listener};

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let agent = Agent::start().await;
    let channel = connect(&agent.socket).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let request = tonic_health::pb::HealthCheckRequest {
        service: "lb.v1.Balancer".into(),
    };
    let status = health.check(request).await.unwrap().into_inner().status();
    assert_eq!(
        status,
        tonic_health::pb::health_check_response::ServingStatus::Serving
    );

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(
        names.contains(&"lb.v1.Balancer") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
    agent.end().await;
}

#[tokio::test]
async fn a_live_socket_is_refused_and_a_dead_one_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let endpoint = Endpoint::Unix(directory.path().join("api.sock"));
    let live = Listener::bind(endpoint.clone()).await.unwrap();
    assert!(matches!(
        Listener::bind(endpoint.clone()).await,
        Err(ListenError::InUse(_))
    ));
    drop(live);
    // A socket whose process died: nobody listens, the file is there.
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("api.sock")).unwrap());
    let replaced = Listener::bind(endpoint).await.unwrap();
    drop(replaced);
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(
        Listener::bind(Endpoint::Unix(file.clone())).await,
        Err(ListenError::NoSocket(_))
    ));
    assert!(file.exists());
}

#[test]
fn endpoints_are_read() {
    for (text, written) in [
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:///run/x.sock", "unix:/run/x.sock"),
        ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
        ("http://[::1]:7070/", "http://[::1]:7070"),
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), written);
    }
    for text in [
        "",
        "/run/x",
        "unix:",
        "http://127.0.0.1",
        "http://0.0.0.0:1",
        "http://10.0.0.1:1",
        "https://127.0.0.1:1",
    ] {
        assert!(text.parse::<Endpoint>().is_err(), "{text}");
    }
}
