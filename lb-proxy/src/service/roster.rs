//! The members that a service lists: addresses, and names with the addresses that they had last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use lb_model::duration;
use tokio::sync::watch;

use super::{Member, State};
use crate::{clock, config::MemberAddress};

/// A member of the configuration file, or of a file of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its address, or a name with all its addresses.
    pub address: MemberAddress,
    /// The weight of each instance.
    pub weight: u32,
}

/// What servers said of a name's addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These, for so long.
    Addresses(BTreeSet<IpAddr>, Duration),
    /// There are none, and why.
    Nothing(String),
    /// They could not be asked, or did not know, and why.
    Failed(String),
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameAddresses {
    /// Its addresses, as far as they are known: A, and AAAA.
    families: [BTreeSet<IpAddr>; 2],
    /// Since when it cannot be resolved, and why.
    pub failed: Option<(Duration, String)>,
}

impl NameAddresses {
    /// Returns its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.families.iter().flatten().copied()
    }

    /// Returns whether nothing was ever said of it.
    fn is_new(&self) -> bool {
        self.failed.is_none() && self.addresses().next().is_none()
    }

    /// Takes answers for A and AAAA. A family that cannot be told keeps the addresses it had. Returns how long the answers
    /// count; `None` if the name cannot be resolved, in whole or in part.
    fn take(&mut self, now: Duration, answers: [Answer; 2]) -> Option<Duration> {
        let mut lifetime: Option<Duration> = None;
        for answer in &answers {
            if let Answer::Addresses(_, time) = answer {
                lifetime = Some(lifetime.map_or(*time, |other| other.min(*time)));
            }
        }
        let mut failure = None;
        for (family, answer) in self.families.iter_mut().zip(answers) {
            match answer {
                Answer::Addresses(found, _) => *family = found,
                // The name exists: it has addresses of the other family only.
                Answer::Nothing(_) if lifetime.is_some() => family.clear(),
                Answer::Failed(_) if lifetime.is_some() && family.is_empty() => {}
                Answer::Nothing(why) | Answer::Failed(why) => {
                    failure.get_or_insert(why);
                }
            }
        }
        let since = self.failed.as_ref().map_or(now, |(since, _)| *since);
        self.failed = failure.map(|why| (since, why));
        lifetime.filter(|_| self.failed.is_none())
    }

    /// Returns what is to be said of it, if it cannot be resolved.
    #[must_use]
    pub fn warning(&self, service: &str, name: &str) -> Option<String> {
        let (since, why) = self.failed.as_ref()?;
        let time = clock::now().saturating_sub(*since).as_secs();
        let kept = match self.addresses().count() {
            0 => "it has no addresses".to_owned(),
            1 => "its last address is kept".to_owned(),
            count => format!("its last {count} addresses are kept"),
        };
        Some(format!(
            "service {service}: the name {name} cannot be resolved since {}: {why}; {kept}",
            duration::format(Duration::from_secs(time))
        ))
    }
}

/// What became of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How long they count; `None` if the name cannot be resolved, in whole or in part.
    pub lifetime: Option<Duration>,
    /// The name cannot be resolved, which was not so before.
    pub is_lost: bool,
    /// Its addresses, if they are others now.
    pub addresses: Option<Vec<IpAddr>>,
}

/// The members of a service.
#[derive(Debug, Default)]
pub struct Roster {
    lists: Mutex<Lists>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Lists {
    listed: Vec<Listed>,
    names: BTreeMap<String, NameAddresses>,
}

impl Lists {
    fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        for listed in &self.listed {
            let member = |address| Member {
                address,
                weight: listed.weight,
                state: State::Up,
            };
            match &listed.address {
                MemberAddress::Address(address) => members.push(member(*address)),
                MemberAddress::Name(name, port) => {
                    let known = self.names.get(name);
                    let addresses = known.into_iter().flat_map(NameAddresses::addresses);
                    members
                        .extend(addresses.map(|address| member(SocketAddr::new(address, *port))));
                }
            }
        }
        members
    }
}

impl Roster {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes another list. Names that stay keep their addresses. `publish` is called under the lock: a list must not be
    /// replaced by an older one.
    pub fn list(&self, listed: Vec<Listed>, publish: impl FnOnce(Vec<Member>)) {
        let mut lists = self.lists();
        let mut names = BTreeMap::new();
        for one in &listed {
            if let MemberAddress::Name(name, _) = &one.address {
                let known = lists.names.remove(name);
                if known.is_some() || !names.contains_key(name) {
                    names.insert(name.clone(), known.unwrap_or_default());
                }
            }
        }
        *lists = Lists { listed, names };
        publish(lists.members());
        drop(lists);
        self.changed.send_replace(());
    }

    /// Forgets the list.
    pub fn forget(&self) {
        *self.lists() = Lists::default();
        self.changed.send_replace(());
    }

    /// Notes answers about a name. `publish` gets the members if they are others now.
    pub fn note(
        &self,
        name: &str,
        v4: Answer,
        v6: Answer,
        publish: impl FnOnce(Vec<Member>),
    ) -> Noted {
        let mut lists = self.lists();
        let Some(known) = lists.names.get_mut(name) else {
            // It is not listed any more.
            return Noted {
                lifetime: None,
                is_lost: false,
                addresses: None,
            };
        };
        let before = known.clone();
        let lifetime = known.take(clock::now(), [v4, v6]);
        let is_lost = known.failed.is_some() && before.failed.is_none();
        let is_other = known.families != before.families;
        let addresses = is_other.then(|| known.addresses().collect());
        if is_other {
            publish(lists.members());
        }
        Noted {
            lifetime,
            is_lost,
            addresses,
        }
    }

    /// Returns the names of the list, with what is known of them.
    pub fn names(&self) -> Vec<(String, NameAddresses)> {
        let lists = self.lists();
        let names = lists.names.iter();
        names
            .map(|(name, known)| (name.clone(), known.clone()))
            .collect()
    }

    /// Returns whether nothing was ever said of a name of the list.
    pub fn is_new(&self, name: &str) -> bool {
        self.lists()
            .names
            .get(name)
            .is_some_and(NameAddresses::is_new)
    }

    /// Returns what tells that the list is another one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str, weight: u32) -> Listed {
        Listed {
            address: text.parse().unwrap(),
            weight,
        }
    }

    fn addresses(texts: &[&str], seconds: u64) -> Answer {
        let found = texts.iter().map(|text| text.parse().unwrap()).collect();
        Answer::Addresses(found, Duration::from_secs(seconds))
    }

    fn nothing() -> Answer {
        Answer::Nothing("no such name".to_owned())
    }

    fn failed() -> Answer {
        Answer::Failed("timed out".to_owned())
    }

    #[test]
    fn families_are_kept_or_replaced_each_by_itself() {
        let (one, six) = ("10.0.0.1", "2001:db8::1");
        let known = |now: u64, known: &mut NameAddresses, v4: Answer, v6: Answer| {
            let lifetime = known.take(Duration::from_secs(now), [v4, v6]);
            let texts: Vec<String> = known.addresses().map(|one| one.to_string()).collect();
            let since = known.failed.as_ref().map(|(since, _)| since.as_secs());
            (texts.join(" "), lifetime.map(|time| time.as_secs()), since)
        };
        let mut name = NameAddresses::default();
        let both = format!("{one} {six}");
        for (now, v4, v6, expected) in [
            // It does not exist yet.
            (1, nothing(), nothing(), ("", None, Some(1))),
            (2, failed(), failed(), ("", None, Some(1))),
            // A server that knows nothing of AAAA is no trouble.
            (3, addresses(&[one], 30), failed(), (one, Some(30), None)),
            (4, addresses(&[one], 30), nothing(), (one, Some(30), None)),
            // The shorter lifetime counts.
            (
                5,
                addresses(&[one], 30),
                addresses(&[six], 20),
                (&both[..], Some(20), None),
            ),
            // The last ones are kept, each family by itself.
            (
                6,
                addresses(&[one], 30),
                failed(),
                (&both[..], None, Some(6)),
            ),
            (7, failed(), failed(), (&both[..], None, Some(6))),
            (8, nothing(), nothing(), (&both[..], None, Some(6))),
            // One that is said not to be is not kept, as long as there are others.
            (9, nothing(), addresses(&[six], 9), (six, Some(9), None)),
        ] {
            let (texts, lifetime, since) = expected;
            let expected = (texts.to_owned(), lifetime, since);
            assert_eq!(known(now, &mut name, v4, v6), expected, "at {now}");
        }
    }

    #[test]
    fn names_are_members_with_their_weight() {
        let roster = Roster::default();
        let published = Mutex::new(Vec::new());
        let publish = |members: Vec<Member>| {
            let texts = members
                .iter()
                .map(|member| format!("{} {}", member.address, member.weight));
            *published.lock().unwrap() = texts.collect();
        };
        let own = || vec![listed("10.0.0.9:80", 5), listed("A.test:81", 7)];
        roster.list(own(), publish);
        assert_eq!(*published.lock().unwrap(), ["10.0.0.9:80 5"]);
        let v6 = addresses(&["2001:db8::1"], 5);
        let noted = roster.note("a.test", addresses(&["10.0.0.1"], 5), v6, publish);
        assert_eq!(noted.addresses.unwrap().len(), 2);
        let all = ["10.0.0.9:80 5", "10.0.0.1:81 7", "[2001:db8::1]:81 7"];
        assert_eq!(*published.lock().unwrap(), all);
        // The same again is no news; nor is what is said of a name that is not listed.
        let noted = roster.note("a.test", failed(), failed(), |_| panic!("nothing new"));
        assert!(noted.is_lost && noted.addresses.is_none());
        let noted = roster.note("a.test", failed(), failed(), |_| panic!("nothing new"));
        assert!(!noted.is_lost);
        roster.note("b.test", nothing(), nothing(), |_| panic!("nothing new"));
        // Names that stay keep their addresses, whatever their port.
        roster.list(
            vec![listed("a.test:82", 1), listed("a.test:83", 2)],
            publish,
        );
        assert_eq!(published.lock().unwrap().len(), 4);
        assert_eq!(roster.names().len(), 1);
        let warning = roster.names()[0].1.warning("web", "a.test").unwrap();
        assert!(
            warning.contains("timed out; its last 2 addresses are kept"),
            "{warning}"
        );
        // One that goes and comes back is a new one.
        roster.list(own(), publish);
        assert!(!roster.is_new("a.test"));
        roster.list(Vec::new(), publish);
        roster.list(own(), publish);
        assert!(roster.is_new("a.test"));
        roster.forget();
        assert!(roster.names().is_empty() && !roster.is_new("a.test"));
    }
}
