//! `grpc.health.v1.Health/Check`: only SERVING is healthy.

use lb_model::peer::Tls;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{Attempt, Finding, Probe, ProbeKind};
use crate::health::Verdict;
use crate::peer::{TlsClient, grpc::exchange, tls};

/// Bytes of a message at most; the right one has two.
const MAX_MESSAGE: usize = 4 << 10;

pub(super) static KIND: ProbeKind = ProbeKind::of::<GrpcProbe>(
    "grpc",
    "Calls `grpc.health.v1.Health/Check`; only SERVING is healthy.",
);

lb_model::settings! {
    /// `grpc.health.v1.Health/Check`.
    #[derive(Eq, Default)]
    pub struct Grpc {
        /// Service that is asked for; the empty one is the server as a whole.
        service: String = String::new();
        /// TLS; without it the connection is not encrypted.
        tls: Option<Tls> = None;
    }
    validate(grpc) {
        tls::validate(grpc.tls.as_ref())
    }
}

/// Calls over a connection of its own.
#[derive(Debug)]
struct GrpcProbe {
    settings: Grpc,
    tls: Option<TlsClient>,
}

impl Probe for GrpcProbe {
    type Settings = Grpc;

    fn new(settings: Grpc) -> Self {
        GrpcProbe {
            tls: TlsClient::of(settings.tls.as_ref(), &["h2"]),
            settings,
        }
    }

    async fn run(&mut self, attempt: &Attempt<'_>) -> Finding {
        let Grpc { service, tls } = &self.settings;
        let authority = tls
            .as_ref()
            .and_then(|tls| tls.server_name.clone())
            .unwrap_or_else(|| attempt.target.address.to_string());
        let stream = attempt.open(self.tls.as_mut()).await?;
        let request = HealthCheckRequest {
            service: service.clone(),
        };
        let answer = exchange(
            stream,
            &authority,
            attempt.deadline,
            |channel, origin| async {
                HealthClient::with_origin(channel, origin)
                    .max_decoding_message_size(MAX_MESSAGE)
                    .check(request)
                    .await
            },
        )
        .await?;
        Ok(match answer {
            Ok(response) => judge(response.into_inner().status()),
            Err(status) if status.code() == Code::NotFound => (
                Verdict::Unhealthy,
                format!("the server knows no service {service:?}"),
            ),
            Err(status) => (
                Verdict::Unhealthy,
                format!("answered {:?}: {}", status.code(), status.message()),
            ),
        })
    }
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
