//! Many changes on one stream. They are queued while earlier ones are stored, so that the owner takes
//! many in one transaction; the responses keep the order.

use std::sync::Arc;

use lb_proto::v1::{self, apply_request::Change as Kind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    Api, ResponseStream, change,
    error::{refused, refused_real},
    limits::{OWN_CHANGES, SHARED_CHANGES},
};
use crate::control::VipView;
use lb_model::intent::Refusal;

/// Responses that wait for a client to read them.
const RESPONSES: usize = 64;

type Pending = oneshot::Receiver<Result<Option<VipView>, Refusal>>;

/// A request whose answer is due.
struct Queued {
    sequence: u64,
    of_real: bool,
    pending: Result<Pending, Refusal>,
    _room: OwnedSemaphorePermit,
}

impl Api {
    pub(super) fn apply_stream(
        &self,
        mut requests: Streaming<v1::ApplyRequest>,
        cause: Arc<str>,
    ) -> ResponseStream<v1::ApplyResponse> {
        let (queue, mut waiting) =
            mpsc::channel::<Result<Queued, Status>>(OWN_CHANGES + SHARED_CHANGES + 1);
        let api = self.clone();
        let own = Arc::new(Semaphore::new(OWN_CHANGES));
        tokio::spawn(async move {
            loop {
                // A closed queue: the client has gone.
                let room = tokio::select! {
                    Some(room) = api.room_for_change(&own) => room,
                    () = queue.closed() => return,
                };
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
                    _room: room,
                };
                if queue.send(Ok(queued)).await.is_err() {
                    return;
                }
            }
        });

        let (responses, stream) = mpsc::channel(RESPONSES);
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

    /// Waits until a stream may have another change in flight. A stream always gets its own share, so one whose client
    /// does not read cannot hold up the others.
    async fn room_for_change(&self, own: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        for room in [own, &self.pending_changes] {
            if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
                return Some(permit);
            }
        }
        Arc::clone(own).acquire_owned().await.ok()
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
