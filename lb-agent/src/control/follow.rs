//! Makes the objects of one owner what it wants: the configuration file at start and when it is read again.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

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
    /// Objects that it would have to change but that belong to somebody else. Some may be as it wants them.
    pub left: Vec<LeftObject>,
}

/// What of a configuration file is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileTopic {
    /// It cannot be read, or some of its changes are refused.
    Refused,
    /// Other owners have objects that it wants otherwise.
    Left,
    /// Settings of the agent that count when it starts again.
    AtNextStart,
}

impl FileTopic {
    /// What watchers hear when it is no more.
    const fn end(self) -> &'static str {
        match self {
            FileTopic::Refused => "the configuration file is followed again",
            FileTopic::Left => {
                "no other owner has an object that the configuration file wants otherwise any more"
            }
            FileTopic::AtNextStart => {
                "the settings of the agent in the configuration file are again those that it started with"
            }
        }
    }
}

/// The configuration file, as the owner knows it. What is not followed is a warning of `lbctl status` until it is.
#[derive(Debug, Default)]
pub(super) struct FileState {
    notes: BTreeMap<FileTopic, String>,
    /// No file was given.
    is_missing: bool,
    /// Objects that belong to others, and their VIPs as the file has them.
    left: Vec<LeftObject>,
    wanted: Intent,
    /// The revision of the intent with which they were last compared.
    compared: Option<u64>,
}

impl FileState {
    /// What is not followed, for an operator.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        self.notes.values().cloned()
    }

    fn set_left(&mut self, left: Vec<LeftObject>, wanted: &Intent) {
        self.wanted = Intent::default();
        for object in &left {
            if let Some(vip) = wanted.get(&object.vip) {
                self.wanted.replace(object.vip, Some(Arc::clone(vip)));
            }
        }
        self.left = left;
        self.compared = None;
    }

    /// Says which objects are not as the file wants them although nobody refuses a change.
    fn unfollowed(&self, current: &Intent) -> Option<String> {
        if self.is_missing {
            let of_file = |vip: &&Arc<Vip>| vip.owner == lb_model::intent::Owner::File;
            let mut vips = current.vips().filter(of_file);
            let first = vips.next()?.address;
            let others = others(vips.count());
            return Some(format!(
                "no configuration file was given (--config): what belongs to one stays as it is (VIP {first}{others})"
            ));
        }
        let differs = |object: &&LeftObject| object.differs(current, &self.wanted);
        let mut left = self.left.iter().filter(differs);
        let first = left.next()?;
        let others = others(left.count());
        Some(format!(
            "the configuration file is not followed in all: it wants {first}{others} otherwise, and what belongs to \
             somebody else stays as it is; `lbctl reload --force` takes it over"
        ))
    }
}

fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
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
            self.file.is_missing = true;
            self.check_file();
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
        if writer.owner == lb_model::intent::Owner::File {
            self.set_file_note(FileTopic::Refused, file_refusals(&changes));
            let before = self.file.notes.get(&FileTopic::Left).cloned();
            self.file.set_left(left.clone(), wanted);
            self.check_file();
            // Each attempt says so, also one that changes nothing.
            if let Some(note) = self.file.notes.get(&FileTopic::Left)
                && before.as_ref() == Some(note)
            {
                tracing::warn!("{note}");
            }
        }
        Followed { changes, left }
    }

    /// Compares objects of other owners with what the configuration file wants, if something has changed.
    pub(super) fn check_file(&mut self) {
        let revision = Some(self.store.revision().0);
        if self.file.compared != revision {
            self.file.compared = revision;
            let unfollowed = self.file.unfollowed(&self.intent);
            if self.set_file_note(FileTopic::Left, unfollowed.clone())
                && let Some(note) = unfollowed
            {
                tracing::warn!("{note}");
            }
        }
    }

    /// Notes what of the configuration file is not followed, and tells watchers when that changes; returns whether it has. The
    /// caller logs a note.
    pub(super) fn set_file_note(&mut self, topic: FileTopic, note: Option<String>) -> bool {
        let before = match &note {
            Some(note) => self.file.notes.insert(topic, note.clone()),
            None => self.file.notes.remove(&topic),
        };
        if before == note {
            return false;
        }
        let cause = note.unwrap_or_else(|| {
            tracing::info!("{}", topic.end());
            topic.end().to_owned()
        });
        self.send(None, cause.into(), What::Notice);
        true
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
