//! What a command waits for, and whether it would wait for itself.

use std::collections::BTreeSet;

use super::Queue;
use crate::command::{Command, CommandId, State};

/// Commands that are looked at for a circle at most.
const LOOKS: usize = 10_000;

impl Queue {
    /// The siblings that come before a command and have not ended.
    fn earlier_siblings<'a>(
        &'a self,
        command: &'a Command,
    ) -> impl Iterator<Item = &'a Command> + 'a {
        let parent = command.parent.and_then(|parent| self.commands.get(&parent));
        let siblings = parent.into_iter().flat_map(|parent| &parent.children);
        let siblings = siblings.filter_map(|id| self.commands.get(id));
        siblings.filter(move |one| one.step < command.step && !one.state.has_ended())
    }

    /// Whether nothing but time keeps a command that waits.
    pub(super) fn may_run(&self, command: &Command) -> bool {
        if self.earlier_siblings(command).next().is_some() {
            return false;
        }
        let Some(object) = self.index.at(&command.object) else {
            return false;
        };
        if command.has_begun() {
            return true;
        }
        // The deepest of those that have the object: others that wait are not of it.
        let holder = object.active.keys().next_back().map(Vec::as_slice);
        let is_held_by_others = object
            .active
            .keys()
            .any(|active| !command.path.starts_with(active));
        !is_held_by_others && object.before(holder, &command.path).is_none()
    }

    /// What a command waits for.
    #[must_use]
    pub fn waits_for(&self, command: &Command) -> Vec<CommandId> {
        match command.state {
            State::WaitsForChildren | State::Compensating => {
                let children = command.children.iter().copied();
                let open = |id: &CommandId| {
                    let child = self.commands.get(id);
                    child.is_some_and(|child| !child.state.has_ended())
                };
                children.filter(open).collect()
            }
            State::Waiting => {
                let mut waits: Vec<CommandId> =
                    self.earlier_siblings(command).map(|one| one.id).collect();
                if !command.has_begun()
                    && let Some(object) = self.index.at(&command.object)
                {
                    let holders = object.active.iter();
                    let (own, others): (Vec<_>, Vec<_>) =
                        holders.partition(|(path, _)| command.path.starts_with(path));
                    let holder = own.last().map(|(path, _)| path.as_slice());
                    waits.extend(object.before(holder, &command.path));
                    waits.extend(others.into_iter().map(|(_, id)| *id));
                }
                waits
            }
            State::Running | State::Done | State::Failed | State::Cancelled => Vec::new(),
        }
    }

    /// The commands by way of which a command waits for itself.
    pub(super) fn circle(&self, start: CommandId) -> Option<Vec<CommandId>> {
        let mut seen = BTreeSet::new();
        let mut way: Vec<(CommandId, Vec<CommandId>)> = vec![(start, self.waits_of(start))];
        while let Some((_, left)) = way.last_mut() {
            let Some(next) = left.pop() else {
                way.pop();
                continue;
            };
            if next == start {
                return Some(way.into_iter().map(|(id, _)| id).collect());
            }
            if seen.len() < LOOKS && seen.insert(next) {
                way.push((next, self.waits_of(next)));
            }
        }
        None
    }

    fn waits_of(&self, id: CommandId) -> Vec<CommandId> {
        let command = self.commands.get(&id);
        command.map_or_else(Vec::new, |command| self.waits_for(command))
    }
}
