//! `grpc.health.v1.Health/Check`: only SERVING is healthy.

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::Finding;
use crate::health::{Verdict, spec::Grpc};
use crate::peer::{Deadline, Stream, Target, TlsClient, grpc::exchange};

/// Bytes of a message at most; the right one has two.
const MAX_MESSAGE: usize = 4 << 10;

/// Calls once over a connection of its own.
pub async fn probe(
    spec: &Grpc,
    target: &Target,
    tls: Option<&mut TlsClient>,
    deadline: &Deadline,
) -> Finding {
    let authority = spec
        .tls
        .as_ref()
        .and_then(|tls| tls.server_name.clone())
        .unwrap_or_else(|| target.address.to_string());
    let stream = Stream::open(target, tls, deadline).await?;
    let request = HealthCheckRequest {
        service: spec.service.clone(),
    };
    let answer = exchange(stream, &authority, deadline, |channel, origin| async {
        HealthClient::with_origin(channel, origin)
            .max_decoding_message_size(MAX_MESSAGE)
            .check(request)
            .await
    })
    .await?;
    Ok(match answer {
        Ok(response) => judge(response.into_inner().status()),
        Err(status) if status.code() == Code::NotFound => (
            Verdict::Unhealthy,
            format!("the server knows no service {:?}", spec.service),
        ),
        Err(status) => (
            Verdict::Unhealthy,
            format!("answered {:?}: {}", status.code(), status.message()),
        ),
    })
}

fn judge(status: ServingStatus) -> (Verdict, String) {
    let verdict = match status {
        ServingStatus::Serving => Verdict::Healthy,
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Verdict::Unhealthy
        }
    };
    (verdict, format!("answered {}", status.as_str_name()))
}
