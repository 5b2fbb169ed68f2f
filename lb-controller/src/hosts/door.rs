//! Who becomes a host, and who still is one.

use std::time::Duration;

use async_trait::async_trait;
use lb_hosts::{
    accept::{Attached, Door},
    authority::Subject,
    token::{Digest, Token},
};
use lb_model::host::HostName;
use tonic::Status;

use super::{
    Hosts, link,
    record::{Duty, HostRecord, TokenRecord},
};
use crate::{clock::unix_now, keeper::Changes};

const ANOTHER: &str = "get another one from `lbctl host token`";

/// What a token lets a machine do.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// It becomes a host.
    New,
    /// It has become one by the same token and key before, and did not hear of it.
    Again,
}

/// Whether a machine may become the host of this name. Pure.
fn admit(
    token: Option<&TokenRecord>,
    host: Option<&HostRecord>,
    name: &HostName,
    key: &str,
    now: Duration,
) -> Result<Admission, Status> {
    let Some(token) = token else {
        return Err(Status::unauthenticated(format!(
            "there is no such token; {ANOTHER}"
        )));
    };
    if let Some((by, by_key)) = &token.used_by {
        let is_same = by == name && by_key == key && host.is_some_and(|host| host.key == key);
        return if is_same && now < token.ends {
            Ok(Admission::Again)
        } else {
            Err(Status::unauthenticated(format!(
                "the token was used by host {by}; {ANOTHER}"
            )))
        };
    }
    if now >= token.ends {
        let ago = lb_model::duration::format(Duration::from_secs((now - token.ends).as_secs()));
        return Err(Status::unauthenticated(format!(
            "the token ended {ago} ago; {ANOTHER}"
        )));
    }
    if let Some(wanted) = &token.name
        && wanted != name
    {
        return Err(Status::permission_denied(format!(
            "the token is for host {wanted}, and this one is called {name}; give --name {wanted}, or {ANOTHER}"
        )));
    }
    if name.is_local() {
        return Err(Status::invalid_argument(
            "name: `local` is the controller's own host; give another --name",
        ));
    }
    if host.is_some() && token.name.is_none() {
        return Err(Status::already_exists(format!(
            "there is a host {name}; give another --name, or get a token for it from `lbctl host token --name {name}` if this machine takes its place"
        )));
    }
    Ok(Admission::New)
}

#[async_trait]
impl Door for Hosts {
    async fn join(&self, token: &Token, name: &HostName, key: Digest) -> Result<(), Status> {
        // One at a time: a token is used once.
        let _order = self.0.orders.lock().await;
        let key = hex::encode(key);
        let now = unix_now();
        let (admission, mut token_record, before) = {
            let state = self.state();
            let found = state.tokens.get(&token.key());
            let host = state.records.get(name);
            let admission = admit(found, host, name, &key, now)?;
            (admission, found.cloned(), host.cloned())
        };
        if admission == Admission::Again {
            return Ok(());
        }
        let record = HostRecord {
            name: name.clone(),
            key: key.clone(),
            duty: Duty::Open,
            joined: now,
            last_seen: now,
            // What it had, as another machine, is lost as before.
            is_lost: before.as_ref().is_some_and(|before| before.is_lost),
            capacity: before
                .as_ref()
                .map(|before| before.capacity)
                .unwrap_or_default(),
            labels: before.map(|before| before.labels).unwrap_or_default(),
            certificate_ends: Duration::ZERO,
            drivers: Vec::new(),
        };
        if let Some(token) = &mut token_record {
            token.used_by = Some((name.clone(), key));
        }
        let mut changes = Changes::default();
        changes.put(name, &record);
        changes.set(token.key(), token_record.as_ref());
        if let Err(error) = self.0.keeper.write(changes).await {
            return Err(Status::unavailable(format!(
                "{error}; try again with the same token"
            )));
        }
        if let Some(token_record) = token_record {
            self.state().tokens.insert(token.key(), token_record);
        }
        tracing::info!("host {name} has joined");
        self.take_up(record);
        Ok(())
    }

    fn check(&self, subject: &Subject) -> Result<(), String> {
        let state = self.state();
        match state.records.get(&subject.name) {
            None => Err(format!(
                "there is no host {}: it was removed; have it join again with a new token",
                subject.name
            )),
            Some(record) if record.key != hex::encode(subject.key.digest()) => Err(format!(
                "another machine has joined as {}; have this one join under another name",
                subject.name
            )),
            Some(_) => Ok(()),
        }
    }

    async fn issued(&self, name: &HostName, ends: Duration) {
        let record = {
            let mut state = self.state();
            state.records.get_mut(name).map(|record| {
                record.certificate_ends = ends;
                record.clone()
            })
        };
        if let Some(record) = record {
            self.store(record);
        }
    }

    fn attached(&self, attached: Attached) {
        let name = attached.subject.name.to_string();
        self.0
            .parts
            .spawn_mortal(link::LINK, name, link::follow(self.clone(), attached));
    }

    fn lifetime(&self) -> Duration {
        self.0
            .settings
            .as_ref()
            .map_or(Duration::from_secs(86_400), |settings| {
                settings.certificate_lifetime
            })
    }

    fn controller(&self) -> &str {
        &self.0.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_used_once_by_whom_they_are_for() {
        let (h1, h2): (HostName, HostName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
        let at = Duration::from_secs;
        let token = TokenRecord {
            name: None,
            ends: at(100),
            used_by: None,
        };
        let host = |name: &HostName, key: &str| HostRecord {
            name: name.clone(),
            key: key.to_owned(),
            duty: Duty::Open,
            joined: at(1),
            last_seen: at(1),
            is_lost: false,
            capacity: super::super::placement::Claim::default(),
            labels: std::collections::BTreeMap::new(),
            certificate_ends: at(1),
            drivers: Vec::new(),
        };
        let refused =
            |token: Option<&TokenRecord>, host: Option<&HostRecord>, name: &HostName, now| {
                admit(token, host, name, "k", now)
                    .unwrap_err()
                    .message()
                    .to_owned()
            };
        assert_eq!(
            admit(Some(&token), None, &h1, "k", at(99)).unwrap(),
            Admission::New
        );
        assert!(refused(None, None, &h1, at(1)).contains("no such token"));
        assert!(refused(Some(&token), None, &h1, at(160)).contains("ended 1m ago"));
        assert!(refused(Some(&token), None, &HostName::local(), at(1)).contains("own host"));
        let taken = host(&h1, "other");
        assert!(refused(Some(&token), Some(&taken), &h1, at(1)).contains("--name h1"));
        let bound = TokenRecord {
            name: Some(h1.clone()),
            ..token.clone()
        };
        assert!(refused(Some(&bound), None, &h2, at(1)).contains("is for host h1"));
        assert_eq!(
            admit(Some(&bound), Some(&taken), &h1, "k", at(1)).unwrap(),
            Admission::New
        );
        let used = TokenRecord {
            used_by: Some((h1.clone(), "k".to_owned())),
            ..token
        };
        assert!(refused(Some(&used), None, &h2, at(1)).contains("was used by host h1"));
        assert!(refused(Some(&used), None, &h1, at(1)).contains("was used"));
        let same = host(&h1, "k");
        assert_eq!(
            admit(Some(&used), Some(&same), &h1, "k", at(1)).unwrap(),
            Admission::Again
        );
        assert!(refused(Some(&used), Some(&taken), &h1, at(1)).contains("was used"));
    }
}
