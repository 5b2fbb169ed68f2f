//! Many changes on one stream. They are queued while earlier ones are stored, so that the owner takes
//! many in one transaction; the responses keep the order.

use std::sync::Arc;

use lb_proto::v1::{self, apply_request::Change as Kind};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    Api, ResponseStream, change,
    error::{refused, refused_real},
};
use crate::control::VipView;
use lb_model::intent::Refusal;

/// Changes of one stream that may wait for their acknowledgement.
const IN_FLIGHT: usize = 2_048;

type Pending = oneshot::Receiver<Result<Option<VipView>, Refusal>>;

/// A request whose answer is due.
struct Queued {
    sequence: u64,
    of_real: bool,
    pending: Result<Pending, Refusal>,
}

impl Api {
    pub(super) fn apply_stream(
        &self,
        mut requests: Streaming<v1::ApplyRequest>,
        cause: Arc<str>,
    ) -> ResponseStream<v1::ApplyResponse> {
        let (queue, mut waiting) = mpsc::channel::<Result<Queued, Status>>(IN_FLIGHT);
        let api = self.clone();
        tokio::spawn(async move {
            loop {
                let request = match requests.message().await {
                    Ok(Some(request)) => request,
                    Ok(None) => return,
                    Err(status) => {
                        // The client has gone, or what it sends is no request.
                        let _ = queue.send(Err(status)).await;
                        return;
                    }
                };
                let of_real = matches!(
                    request.change,
                    Some(Kind::AddReal(_) | Kind::UpdateReal(_) | Kind::DeleteReal(_))
                );
                let pending = match change::of(request.change, &cause) {
                    Ok(change) => api.control.submit(change, false).await,
                    Err(refusal) => Err(refusal),
                };
                let queued = Queued {
                    sequence: request.sequence,
                    of_real,
                    pending,
                };
                if queue.send(Ok(queued)).await.is_err() {
                    return;
                }
            }
        });

        let (responses, stream) = mpsc::channel(IN_FLIGHT);
        tokio::spawn(async move {
            while let Some(next) = waiting.recv().await {
                let response = match next {
                    Ok(queued) => {
                        let outcome = match queued.pending {
                            Ok(pending) => pending.await.unwrap_or(Err(Refusal::Stopping)),
                            Err(refusal) => Err(refusal),
                        };
                        let status = if queued.of_real {
                            refused_real
                        } else {
                            refused
                        };
                        Ok(respond(queued.sequence, outcome.map_err(status)))
                    }
                    Err(status) => Err(status),
                };
                if responses.send(response).await.is_err() {
                    return;
                }
            }
        });
        Box::pin(ReceiverStream::new(stream))
    }
}

fn respond<T>(sequence: u64, outcome: Result<T, Status>) -> v1::ApplyResponse {
    match outcome {
        Ok(_) => v1::ApplyResponse {
            sequence,
            error: String::new(),
            code: Code::Ok.into(),
        },
        Err(status) => v1::ApplyResponse {
            sequence,
            error: status.message().to_owned(),
            code: status.code().into(),
        },
    }
}
