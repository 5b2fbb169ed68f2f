//! A snapshot of all VIPs, then each change.

use std::time::SystemTime;

use lb_model::vip::VipKey;
use lb_proto::v1::{self, watch_event::Event as Kind};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Api, ResponseStream, convert,
    error::{refused, unread},
};
use crate::control::{Event, VipView, Watching, What};

/// Messages that wait for a client; behind them is the owner's bounded queue.
const QUEUE: usize = 64;

impl Api {
    pub(super) async fn watch_stream(
        &self,
        request: v1::WatchRequest,
    ) -> Result<ResponseStream<v1::WatchEvent>, Status> {
        let vip = convert::optional_vip(request.id, convert::ID).map_err(refused)?;
        let since = Some(request.since_revision).filter(|revision| *revision > 0);
        let watching = self.control.watch(vip, since).await.map_err(unread)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                end = relay(watching, vip, &sender) => end,
                () = sender.closed() => return,
                () = lb_serve::stopped(&mut stopping) => Some(super::stopping()),
            };
            if let Some(status) = end {
                // The client may have gone.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

/// Sends until the client goes (`None`) or the stream has to end (with the reason).
async fn relay(
    mut watching: Watching,
    only: Option<VipKey>,
    sender: &mpsc::Sender<Result<v1::WatchEvent, Status>>,
) -> Option<Status> {
    let revision = watching.revision;
    let snapshot = watching.snapshot.iter();
    let snapshot = snapshot.map(|view| Kind::Snapshot(convert::vip(view)));
    let deleted = watching.deleted.iter();
    let deleted = deleted.map(|vip| Kind::VipDeleted(convert::vip_id(vip)));
    let end = Kind::SnapshotEnd(v1::SnapshotEnd {
        resumed: watching.resumed,
    });
    for kind in snapshot.chain(deleted).chain([end]) {
        let message = event(SystemTime::now(), "snapshot", revision, kind);
        sender.send(Ok(message)).await.ok()?;
    }
    loop {
        match watching.events.recv().await {
            Ok(change) if only.is_none() || change.vip.is_none() || only == change.vip => {
                sender.send(Ok(changed(&change))).await.ok()?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                return Some(Status::aborted(format!(
                    "this watcher reads too slowly, {lost} events were lost; call Watch again for a new snapshot"
                )));
            }
            Err(RecvError::Closed) => return Some(super::stopping()),
        }
    }
}

fn event(time: SystemTime, cause: &str, revision: u64, kind: Kind) -> v1::WatchEvent {
    v1::WatchEvent {
        time: Some(convert::timestamp(time)),
        cause: cause.to_owned(),
        revision,
        event: Some(kind),
    }
}

fn changed(change: &Event) -> v1::WatchEvent {
    let vip = |view: &VipView| convert::vip(view);
    let real = |view| v1::RealEvent {
        vip: change.vip.as_ref().map(convert::vip_id),
        real: Some(convert::real(view)),
    };
    let kind = match &change.what {
        What::VipAdded(view) => Kind::VipAdded(vip(view)),
        What::VipChanged(view) => Kind::VipChanged(vip(view)),
        What::VipDeleted => {
            Kind::VipDeleted(change.vip.as_ref().map(convert::vip_id).unwrap_or_default())
        }
        What::RealAdded(view) => Kind::RealAdded(real(view)),
        What::RealChanged(view) => Kind::RealChanged(real(view)),
        What::RealDeleted(view) => Kind::RealDeleted(real(view)),
        What::InterfaceChanged(interface) => {
            Kind::InterfaceChanged(super::status::interface(interface.clone()))
        }
        What::Notice => Kind::Notice(v1::Notice {}),
    };
    event(change.time, &change.cause, change.revision, kind)
}
