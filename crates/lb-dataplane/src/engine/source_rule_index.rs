//! The table of source rules: which clients of a service are refused or have a real of their own.

use std::{collections::BTreeMap, sync::Arc};

use lb_common::{
    limits::MAX_SOURCE_RULES,
    tables::source_rule::{Rule, SourceKey},
};
use lb_model::{
    source_rule::{SourceAction, SourceRule},
    vip::RealId,
};

use crate::{backend::TableBackend, error::DataplaneError};

/// What the table has.
///
/// Longer prefixes are added first and removed last, so that in between no source is refused that is served before and
/// after a change.
#[derive(Debug, Default)]
pub(crate) struct SourceRuleIndex {
    /// By service: [`Rule::number`].
    rules: BTreeMap<u32, BTreeMap<SourceKey, u32>>,
    /// By service: what its part of the table was made from.
    made_from: BTreeMap<u32, MadeFrom>,
}

/// What a service's part of the table was made from. While that is the same there is nothing to do.
#[derive(Debug, PartialEq)]
struct MadeFrom {
    rules: Arc<[SourceRule]>,
    /// The indices of the reals that rules name, in the order of the rules.
    named: Vec<Option<u16>>,
}

impl MadeFrom {
    fn new(rules: &Arc<[SourceRule]>, reals: &BTreeMap<RealId, u16>) -> MadeFrom {
        let named = rules.iter().filter_map(|rule| match rule.action {
            SourceAction::Real(real) => Some(reals.get(&real).copied()),
            SourceAction::Allow | SourceAction::Deny => None,
        });
        MadeFrom {
            named: named.collect(),
            rules: Arc::clone(rules),
        }
    }
}

impl SourceRuleIndex {
    /// Takes over what an earlier agent left; what is of no service is removed.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn adopt<B: TableBackend>(
        &mut self,
        backend: &mut B,
        is_service: impl Fn(u32) -> bool,
    ) -> Result<(), DataplaneError> {
        for (key, rule) in backend.source_rules()? {
            if is_service(key.service) {
                self.rules.entry(key.service).or_default().insert(key, rule);
            } else {
                backend.remove_source_rule(&key)?;
            }
        }
        Ok(())
    }

    /// Rules of all services.
    pub fn used(&self) -> u64 {
        self.rules.values().map(|rules| rules.len() as u64).sum()
    }

    /// Whether there is room for a service's rules; `service` is `None` for a new one.
    ///
    /// # Errors
    /// [`DataplaneError::Full`].
    pub fn check_room(
        &self,
        service: Option<u32>,
        rules: &Arc<[SourceRule]>,
    ) -> Result<(), DataplaneError> {
        let made_from = service.and_then(|service| self.made_from.get(&service));
        if made_from.is_some_and(|made_from| made_from.rules == *rules) {
            return Ok(());
        }
        // While they change, a service's old and new rules are in the table.
        let own = service.and_then(|service| Some((service, self.rules.get(&service)?)));
        let new = match own {
            Some((service, own)) => {
                let is_new = |rule: &&SourceRule| !own.contains_key(&key_of(service, rule));
                rules.iter().filter(is_new).count()
            }
            None => rules.len(),
        };
        if self.used() + new as u64 > u64::from(MAX_SOURCE_RULES) {
            return Err(DataplaneError::Full {
                table: "SOURCE_RULES",
                capacity: u64::from(MAX_SOURCE_RULES),
                advice: "join prefixes that lie side by side, or remove some from a VIP first",
            });
        }
        Ok(())
    }

    /// Makes a service's rules those of the change; `reals` are its reals and their indices. A rule with another real is one
    /// that allows.
    ///
    /// # Errors
    /// [`DataplaneError::System`]; what was done until then is known, so the next change goes on.
    pub fn set<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
        rules: &Arc<[SourceRule]>,
        reals: &BTreeMap<RealId, u16>,
    ) -> Result<(), DataplaneError> {
        let made_from = MadeFrom::new(rules, reals);
        if self.made_from.get(&service) == Some(&made_from) {
            return Ok(());
        }
        self.made_from.remove(&service);
        let wanted: BTreeMap<SourceKey, u32> = rules
            .iter()
            .map(|rule| (key_of(service, rule), number_of(rule, reals)))
            .collect();
        let own = self.rules.entry(service).or_default();
        // Keys are in the order of their bits.
        for (key, rule) in wanted.iter().rev() {
            if own.get(key) != Some(rule) {
                backend.insert_source_rule(key, *rule)?;
                own.insert(*key, *rule);
            }
        }
        let gone: Vec<SourceKey> = own
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            backend.remove_source_rule(&key)?;
            own.remove(&key);
        }
        if own.is_empty() {
            self.rules.remove(&service);
        }
        if !rules.is_empty() {
            self.made_from.insert(service, made_from);
        }
        Ok(())
    }

    /// Removes a service's rules.
    ///
    /// # Errors
    /// [`DataplaneError::System`].
    pub fn remove<B: TableBackend>(
        &mut self,
        backend: &mut B,
        service: u32,
    ) -> Result<(), DataplaneError> {
        self.set(backend, service, &Arc::default(), &BTreeMap::new())
    }
}

fn key_of(service: u32, rule: &SourceRule) -> SourceKey {
    SourceKey::new(service, rule.octets(), rule.prefix.prefix_len().into())
}

fn number_of(rule: &SourceRule, reals: &BTreeMap<RealId, u16>) -> u32 {
    let rule = match rule.action {
        SourceAction::Allow => Rule::Allow,
        SourceAction::Deny => Rule::Deny,
        SourceAction::Real(real) => reals
            .get(&real)
            .map_or(Rule::Allow, |index| Rule::Real(*index)),
    };
    rule.number()
}
