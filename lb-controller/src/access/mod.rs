//! Who may use the controller, and who did what.
//!
//! - [`verbs`]: every verb of the API, with the role that it needs; what is not there is refused. [`decide`]: the one check.
//!   [`accounts`]: users and tokens. These are pure.
//! - [`Access`]: finds out who calls, and stores orders about users and tokens.
//! - [`audit`]: the audit log.
//!
//! What gRPC and HTTP make of it stands in `api/guard.rs` and `http/guard.rs`.

pub mod accounts;
pub mod audit;
mod caller;
mod decide;
mod failures;
mod names;
mod orders;
mod record;
mod settings;
pub mod verbs;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use lb_serve::{
    Peer,
    auth::{Credentials, Nonces, Verdict, credentials, digest},
};

pub use self::{
    accounts::AccountError,
    caller::{Caller, Grant, Role, Who},
    decide::{Denied, Named, decide},
    names::{Directory, Entering, Names},
    orders::AccessError,
    record::{TokenRecord, UserRecord},
    settings::{AccessSettings, AccessTls, Anonymous},
};
use self::{
    accounts::Accounts,
    audit::{Audit, Entry, Outcome},
    failures::{Failures, Reason},
    verbs::Verb,
};
use crate::{
    clock::unix_now,
    controller::Controller,
    keeper::Keeper,
    records::{Stored, Unreadable},
};

/// The realm of passwords. What is stored of them depends on it.
pub const REALM: &str = "lb-controller";
/// The folder of the audit log, in that of the controller.
const AUDIT: &str = "audit";
/// How often it is looked whether the audit log can be written.
const LOOK: Duration = Duration::from_secs(1);

/// What a caller sends to say who it is.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The `Authorization` field, if there is one.
    pub field: Option<&'a [u8]>,
    /// The method of the request.
    pub method: &'a str,
    /// What is requested: path and query.
    pub target: &'a str,
}

/// A caller did not prove who it says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproved {
    /// What is wrong.
    pub text: String,
    /// Whether another nonce is all that it needs.
    pub is_stale: bool,
}

/// Access to the controller. Clones are the same.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: AccessSettings,
    keeper: Keeper,
    accounts: Mutex<Accounts>,
    /// Held while an order is stored: the next one is checked against what follows from it.
    ordering: tokio::sync::Mutex<()>,
    nonces: Nonces,
    started: Instant,
    /// Users of this machine that may do everything.
    admins: BTreeSet<u32>,
    failures: Failures,
    audit: Audit,
}

/// Why access cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] Unreadable),
    /// The audit log cannot be opened.
    #[error("opening the audit log in {0}: {1}")]
    Audit(std::path::PathBuf, std::io::Error),
    /// There is no such user.
    #[error("access.local_admins: there is no user {0} on this machine")]
    NoUser(String),
}

impl Access {
    /// Takes up what is stored, and opens the audit log, whose thread is the other result.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        settings: AccessSettings,
        state: &Path,
        stored: &Stored,
        keeper: Keeper,
    ) -> Result<(Self, JoinHandle<()>), StartError> {
        let record = |(_, record)| record;
        let users: Vec<(String, UserRecord)> = stored.all()?;
        let tokens: Vec<(String, TokenRecord)> = stored.all()?;
        let accounts = Accounts::restored(
            users.into_iter().map(record).collect(),
            tokens.into_iter().map(|(_, record)| record).collect(),
        );
        let mut admins = BTreeSet::from([0, nix::unistd::geteuid().as_raw()]);
        for text in &settings.local_admins {
            admins.insert(local_user(text).ok_or_else(|| StartError::NoUser(text.clone()))?);
        }
        let folder = state.join(AUDIT);
        let (audit, thread) = Audit::open(&folder, settings.audit_size.0, settings.audit_files)
            .map_err(|error| StartError::Audit(folder, error))?;
        let access = Access(Arc::new(Inner {
            settings,
            keeper,
            accounts: Mutex::new(accounts),
            ordering: tokio::sync::Mutex::default(),
            nonces: Nonces::new(),
            started: Instant::now(),
            admins,
            failures: Failures::default(),
            audit,
        }));
        Ok((access, thread))
    }

    /// Says what is wrong with the audit log, until the process ends.
    pub async fn watch(self, controller: Controller) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            controller.set_warning("audit", self.0.audit.trouble());
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &AccessSettings {
        &self.0.settings
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.0
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Proofs that failed, by reason.
    #[must_use]
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        self.0.failures.counts()
    }

    /// Finds out who calls. Who shows nothing is anonymous; who shows something wrong is refused.
    ///
    /// # Errors
    /// [`Unproved`].
    pub fn identify(&self, peer: &Peer, proof: Proof<'_>) -> Result<Caller, Unproved> {
        match proof.field {
            Some(field) => self.proved(peer, field, proof),
            None => Ok(self.unsaid(peer)),
        }
    }

    /// Who calls without saying who it is.
    fn unsaid(&self, peer: &Peer) -> Caller {
        let settings = &self.0.settings;
        match peer {
            Peer::Unix { user, .. } if self.0.admins.contains(user) => {
                return Caller {
                    who: Who::Local(*user),
                    grants: vec![Grant::everywhere(Role::Admin)],
                };
            }
            Peer::Tcp { names, .. } => {
                if let Some(caller) = self.accounts().by_certificate(names) {
                    return caller;
                }
            }
            _ => {}
        }
        let anonymous = if peer.is_local() {
            settings.anonymous
        } else {
            settings.anonymous_remote
        };
        Caller::anonymous(anonymous.role())
    }

    fn proved(&self, peer: &Peer, field: &[u8], proof: Proof<'_>) -> Result<Caller, Unproved> {
        let since = self.0.started.elapsed();
        let failed = |reason, text: &str| {
            self.0.failures.note(reason, peer, text, since);
            Unproved {
                text: text.to_owned(),
                is_stale: false,
            }
        };
        let shown =
            credentials(field).map_err(|error| failed(Reason::Malformed, &error.to_string()))?;
        match shown {
            Credentials::Bearer(token) => {
                let caller = self.accounts().by_token(&token, unix_now());
                caller.ok_or_else(|| {
                    let text = format!("the token {} is not known, or has ended", token.id());
                    failed(Reason::Token, &text)
                })
            }
            Credentials::Digest(answer) => self.answered(&answer, proof, since, failed),
        }
    }

    fn answered(
        &self,
        answer: &digest::Answer,
        proof: Proof<'_>,
        since: Duration,
        failed: impl Fn(Reason, &str) -> Unproved,
    ) -> Result<Caller, Unproved> {
        if !self.0.settings.algorithms().contains(&answer.algorithm) {
            let text = format!("{} is not enabled here; use SHA-256", answer.algorithm);
            return Err(failed(Reason::Malformed, &text));
        }
        if answer.realm != REALM || answer.uri != proof.target {
            let text = "the proof is for something else than this request";
            return Err(failed(Reason::Malformed, text));
        }
        let stale = Unproved {
            text: "the nonce is too old".to_owned(),
            is_stale: true,
        };
        let caller = self.accounts().by_digest(answer, proof.method);
        let Some(caller) = caller else {
            // Who has slept needs no alarm.
            if self.0.nonces.look(&answer.nonce, since) == Verdict::Stale {
                return Err(stale);
            }
            return Err(failed(
                Reason::Password,
                "the user is not known, or the password is wrong",
            ));
        };
        match self.0.nonces.take(&answer.nonce, answer.count, since) {
            Verdict::Fresh => Ok(caller),
            // Nonces of an earlier run are unknown: the client has the right password.
            Verdict::Stale | Verdict::Unknown => Err(stale),
            Verdict::Replayed => Err(failed(Reason::Replay, "the same proof was used before")),
        }
    }

    /// The contents of `WWW-Authenticate` fields.
    #[must_use]
    pub fn challenges(&self, is_stale: bool) -> Vec<String> {
        let nonce = self.0.nonces.issue(self.0.started.elapsed());
        let algorithms = self.0.settings.algorithms().iter();
        let mut challenges: Vec<String> = algorithms
            .map(|algorithm| digest::challenge(*algorithm, REALM, &nonce, is_stale))
            .collect();
        challenges.push(format!("Bearer realm=\"{REALM}\""));
        challenges
    }

    /// The one check: whether a caller may do something with what it names.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, caller: &Caller, verb: &Verb, named: Named) -> Result<(), Denied> {
        if verb.name == verbs::METRICS && self.0.settings.open_metrics {
            return Ok(());
        }
        decide(caller, verb, named)
    }
}

/// An order that was let in, or was not, for the audit log.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was to be done.
    pub verb: &'static Verb,
    /// Who wants it.
    pub who: Who,
    /// From where.
    pub from: Peer,
    /// `grpc` or `http`.
    pub via: &'static str,
    /// What it names.
    pub names: Names,
    /// Its project, and its generation before.
    pub project: Option<u64>,
    /// The object's generation before.
    pub before: Option<u64>,
    /// Id of the request.
    pub request: String,
}

impl Access {
    /// Notes what became of an attempt, if that is of interest.
    pub fn note(
        &self,
        attempt: &Attempt,
        outcome: Outcome,
        status: impl Into<String>,
        after: Option<u64>,
    ) {
        if !attempt.verb.is_audited {
            return;
        }
        self.0.audit.write(Entry {
            time: milliseconds(jiff::Timestamp::now()),
            who: attempt.who.to_string(),
            from: attempt.from.to_string(),
            via: attempt.via.to_owned(),
            verb: attempt.verb.name.to_owned(),
            project: attempt.project,
            object: attempt.names.to_string(),
            outcome,
            status: status.into(),
            before: attempt.before,
            after,
            request: attempt.request.clone(),
        });
    }
}

/// The number of a user of this machine.
fn local_user(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let user = nix::unistd::User::from_name(text).ok()??;
    Some(user.uid.as_raw())
}

/// Times in the log have milliseconds.
fn milliseconds(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
