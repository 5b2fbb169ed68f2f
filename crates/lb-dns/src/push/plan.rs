//! What is to be done about a name. Everything here is pure.

use std::collections::BTreeSet;

use hickory_proto::{
    op::Message,
    rr::{Name, RData},
};
use lb_model::dns::Addresses;

/// What the server has at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) addresses: Addresses,
    /// The times to live of the addresses.
    pub(super) ttls: BTreeSet<u32>,
    /// The name is an alias of another one (CNAME).
    pub(super) is_alias: bool,
    /// The name is in a part of the zone that other servers have.
    pub(super) is_delegated: bool,
    /// The texts of the mark.
    pub(super) marks: BTreeSet<String>,
}

impl State {
    /// Takes the answer to a question about the name or its mark.
    pub(super) fn add(&mut self, name: &Name, answer: &Message) {
        if !answer.metadata.authoritative {
            self.is_delegated = true;
            return;
        }
        for record in &answer.answers {
            let address = match &record.data {
                RData::A(address) => address.0.into(),
                RData::AAAA(address) => address.0.into(),
                RData::TXT(text) if record.name == *name => {
                    let parts = text.txt_data.iter();
                    let text: String = parts.map(|part| String::from_utf8_lossy(part)).collect();
                    self.marks.insert(text);
                    continue;
                }
                RData::CNAME(_) => {
                    self.is_alias = true;
                    continue;
                }
                _ => continue,
            };
            // Addresses at the end of an alias are those of another name.
            if record.name == *name {
                self.addresses.insert(address);
                self.ttls.insert(record.ttl);
            }
        }
    }
}

/// What is to be done about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: it is as it is to be.
    Keep,
    /// Make the name, and make it ours.
    Create,
    /// Replace its addresses.
    Change,
    /// Remove it.
    Remove,
    /// Put it on the list of names.
    List,
    /// Take it off the list of names; it is not ours.
    Unlist,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was as it is to be, and nothing was written.
    Unchanged,
    /// It was made, or has other addresses now.
    Written,
    /// It is removed.
    Removed,
}

impl Plan {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Plan::Keep | Plan::List | Plan::Unlist => Outcome::Unchanged,
            Plan::Create | Plan::Change => Outcome::Written,
            Plan::Remove => Outcome::Removed,
        }
    }
}

/// Decides what is to be done so that a name has the wanted addresses, or does not exist if there are none. `listed` says
/// whether it is on the list of names, if that is known.
///
/// # Errors
/// Returns what the name has that is not ours.
pub(super) fn plan(
    state: &State,
    wanted: &Addresses,
    ttl: u32,
    mark: &str,
    listed: Option<bool>,
) -> Result<Plan, String> {
    let is_ours = state.marks.len() == 1 && state.marks.contains(mark);
    if !is_ours {
        if wanted.is_empty() {
            let is_listed = listed == Some(true);
            return Ok(if is_listed { Plan::Unlist } else { Plan::Keep });
        }
        if !state.marks.is_empty() {
            let marks: Vec<_> = state.marks.iter().map(|mark| format!("{mark:?}")).collect();
            return Err(format!("it is marked as {}", marks.join(" and ")));
        }
        if state.is_delegated {
            return Err("it is delegated to other name servers".to_owned());
        }
        if state.is_alias {
            return Err("it is an alias (CNAME)".to_owned());
        }
        if !state.addresses.is_empty() {
            return Err("it has addresses that this controller has not made".to_owned());
        }
        return Ok(Plan::Create);
    }
    if wanted.is_empty() {
        return Ok(Plan::Remove);
    }
    if state.is_alias {
        // The server would ignore the addresses without an error (RFC 2136 section 3.4.2.2).
        return Err("it has become an alias (CNAME)".to_owned());
    }
    if state.addresses != *wanted || !state.ttls.iter().eq([&ttl]) {
        return Ok(Plan::Change);
    }
    Ok(if listed == Some(false) {
        Plan::List
    } else {
        Plan::Keep
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "lb-dns owner=lb";

    fn addresses(texts: &[&str]) -> Addresses {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn state(texts: &[&str], marks: &[&str]) -> State {
        State {
            addresses: addresses(texts),
            ttls: if texts.is_empty() {
                BTreeSet::new()
            } else {
                BTreeSet::from([30])
            },
            is_alias: false,
            is_delegated: false,
            marks: marks.iter().map(|mark| (*mark).to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_done_follows_from_what_there_is() {
        let one = &["192.0.2.1"][..];
        let other = "lb-dns owner=other";
        let mut late = state(one, &[MARK]);
        late.ttls = BTreeSet::from([60]);
        let mut uneven = state(one, &[MARK]);
        uneven.ttls.insert(60);
        let cases = [
            ("nothing there", state(&[], &[]), one, None, Plan::Create),
            (
                "as it is to be",
                state(one, &[MARK]),
                one,
                Some(true),
                Plan::Keep,
            ),
            (
                "not known whether listed",
                state(one, &[MARK]),
                one,
                None,
                Plan::Keep,
            ),
            (
                "not listed",
                state(one, &[MARK]),
                one,
                Some(false),
                Plan::List,
            ),
            (
                "other addresses",
                state(&["192.0.2.2"], &[MARK]),
                one,
                None,
                Plan::Change,
            ),
            (
                "addresses are lost",
                state(&[], &[MARK]),
                one,
                None,
                Plan::Change,
            ),
            ("another time to live", late, one, None, Plan::Change),
            ("two times to live", uneven, one, None, Plan::Change),
            ("not wanted", state(one, &[MARK]), &[], None, Plan::Remove),
            (
                "only the mark is left",
                state(&[], &[MARK]),
                &[],
                None,
                Plan::Remove,
            ),
            ("gone", state(&[], &[]), &[], None, Plan::Keep),
            (
                "gone and listed",
                state(&[], &[]),
                &[],
                Some(true),
                Plan::Unlist,
            ),
            (
                "another's, not wanted",
                state(one, &[other]),
                &[],
                Some(true),
                Plan::Unlist,
            ),
            (
                "somebody's, not wanted",
                state(one, &[]),
                &[],
                None,
                Plan::Keep,
            ),
        ];
        for (what, state, wanted, listed, expected) in cases {
            let planned = plan(&state, &addresses(wanted), 30, MARK, listed);
            assert_eq!(planned, Ok(expected), "{what}");
        }
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let one = &["192.0.2.1"][..];
        let other = "lb-dns owner=other";
        let mut alias = state(&[], &[]);
        alias.is_alias = true;
        let mut delegated = state(&[], &[]);
        delegated.is_delegated = true;
        let mut own_alias = state(&[], &[MARK]);
        own_alias.is_alias = true;
        let cases = [
            (
                state(one, &[]),
                "it has addresses that this controller has not made",
            ),
            (
                state(&["192.0.2.7"], &[]),
                "it has addresses that this controller has not made",
            ),
            (
                state(one, &[other]),
                "it is marked as \"lb-dns owner=other\"",
            ),
            (
                state(&[], &[other]),
                "it is marked as \"lb-dns owner=other\"",
            ),
            (
                state(one, &[MARK, other]),
                "it is marked as \"lb-dns owner=lb\" and \"lb-dns owner=other\"",
            ),
            (alias, "it is an alias (CNAME)"),
            (delegated, "it is delegated to other name servers"),
            (own_alias, "it has become an alias (CNAME)"),
        ];
        for (state, reason) in cases {
            let planned = plan(&state, &addresses(one), 30, MARK, Some(true));
            assert_eq!(planned, Err(reason.to_owned()));
        }
    }
}
