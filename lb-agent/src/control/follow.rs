//! Makes the objects of one owner what it wants: the configuration file at start and when it is read again.

use std::{sync::Arc, time::Instant};

use lb_model::intent::{
    Change, Intent, Plan, Refusal, Vip, Writer,
    follow::{LeftObject, follow},
};
use tokio::sync::oneshot;

use super::{ChangeRequest, PendingChange, event::What, owner::Owner};

/// What was done to make an owner's objects what it wants.
#[derive(Debug)]
pub struct Followed {
    /// The changes, each made or refused.
    pub changes: Vec<(Change, Result<(), Refusal>)>,
    /// Objects that it wants otherwise but that belong to somebody else.
    pub left: Vec<LeftObject>,
}

/// The intent at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// VIPs and reals.
    pub intent: Intent,
    /// The database's id.
    pub identity: u64,
    /// Its revision.
    pub revision: u64,
    /// Whether checks may run programs.
    pub exec_checks: bool,
}

impl Owner {
    /// At start: the file's objects follow it. Without a file they stay as they are.
    pub(super) fn follow_file(&mut self, file: Option<Intent>) {
        let Some(wanted) = file else {
            let of_file = |vip: &&Arc<Vip>| vip.owner == lb_model::intent::Owner::File;
            let vips = self.intent.vips().filter(of_file).count();
            if vips > 0 {
                tracing::warn!(
                    "{vips} VIPs belong to a configuration file, and none was given (--config); they stay as they are"
                );
            }
            return;
        };
        let writer = Writer::of(lb_model::intent::Owner::File);
        self.follow(&wanted, &writer, &Arc::from("configuration file"));
    }

    /// Makes the objects of `writer`'s owner what is wanted, all changes in one transaction: a crash leaves no VIP with
    /// half of its reals.
    pub(super) fn follow(
        &mut self,
        wanted: &Intent,
        writer: &Writer,
        cause: &Arc<str>,
    ) -> Followed {
        let Plan { changes, left } = follow(&self.intent, wanted, writer);
        let pending = changes.into_iter().map(|change| PendingChange {
            request: ChangeRequest {
                change,
                writer: writer.clone(),
                cause: Arc::clone(cause),
            },
            reply: oneshot::channel().0,
            view: false,
            requested: Instant::now(),
        });
        let mut changes = Vec::new();
        for (pending, outcome) in self.apply(pending.collect()) {
            let ChangeRequest { change, cause, .. } = pending.request;
            if let Err(refusal) = &outcome {
                tracing::error!(
                    "{}: {} by the {cause} refused: {refusal}",
                    change.object(),
                    change.name()
                );
            }
            changes.push((change, outcome.map(drop)));
        }
        if let [first, others @ ..] = left.as_slice() {
            let others = match others.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tracing::warn!(
                "{first}{others}: the {cause} names them, but they belong to somebody else and stay as they are; \
                 `lbctl reload --force` takes them over"
            );
        }
        if writer.owner == lb_model::intent::Owner::File {
            self.set_file_error(file_refusals(&changes));
        }
        Followed { changes, left }
    }

    /// Notes why the configuration file is not followed, and tells watchers when that changes.
    pub(super) fn set_file_error(&mut self, error: Option<String>) {
        if self.file_error == error {
            return;
        }
        let cause = match &error {
            Some(error) => {
                tracing::error!("{error}");
                error.clone()
            }
            None => "the configuration file is followed again".to_owned(),
        };
        self.file_error = error;
        self.send(None, cause.into(), What::Notice);
    }
}

/// What of the configuration file is not followed.
fn file_refusals(changes: &[(Change, Result<(), Refusal>)]) -> Option<String> {
    let mut refused = changes
        .iter()
        .filter_map(|(change, made)| Some((change, made.as_ref().err()?)));
    let (change, refusal) = refused.next()?;
    let others = match refused.count() {
        0 => String::new(),
        more => format!(" ({more} more changes are refused as well; the log names them)"),
    };
    Some(format!(
        "the configuration file is not followed in all: {}: {} is refused: {refusal}{others}",
        change.object(),
        change.name()
    ))
}
