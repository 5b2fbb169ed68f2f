//! A copy of the intent.

use futures::stream;
use lb_proto::v1;
use tonic::Status;

use super::{Api, ResponseStream, error::unread};
use crate::{control::Snapshot, store::backup};

/// Lines of one message: of 64 KiB each in the worst case, that is within the limit of a message.
const LINES: usize = 32;

impl Api {
    pub(super) async fn back_up(&self) -> Result<ResponseStream<v1::BackupLines>, Status> {
        let Snapshot {
            intent,
            identity,
            revision,
            ..
        } = self.control.snapshot().await.map_err(unread)?;
        let lines = tokio::task::spawn_blocking(move || {
            let lines = backup::write(&intent, identity, revision);
            let messages = lines.chunks(LINES);
            let messages = messages.map(|lines| v1::BackupLines {
                text: lines.concat(),
            });
            messages.map(Ok).collect::<Vec<_>>()
        });
        let lines = lines
            .await
            .map_err(|error| Status::internal(format!("writing the copy failed: {error}")))?;
        Ok(Box::pin(stream::iter(lines)))
    }
}
