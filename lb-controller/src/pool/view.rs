//! A pool's instances, as operators see them.

use std::{net::SocketAddr, time::Duration};

use lb_commands::environment::Power;
use lb_model::host::HostName;

use super::{Now, Pool, Role, Slot};
use lb_steering::{
    scaling::Vitality,
    score::{Category, Score},
};

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InstanceState {
    /// It is being made, or its check has not passed yet.
    Init,
    /// It serves, with low utilisation.
    Low,
    /// It serves, with medium utilisation.
    Medium,
    /// It serves, with high utilisation.
    High,
    /// It gets no new flows, and ends.
    Sundown,
    /// It is warm.
    Spare,
    /// It is dead.
    Failed,
}

impl InstanceState {
    /// All, in the order of an instance's life.
    pub const ALL: &[InstanceState] = &[
        InstanceState::Init,
        InstanceState::Low,
        InstanceState::Medium,
        InstanceState::High,
        InstanceState::Sundown,
        InstanceState::Spare,
        InstanceState::Failed,
    ];

    /// Whether it serves.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(
            self,
            InstanceState::Low | InstanceState::Medium | InstanceState::High
        )
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            InstanceState::Init => "INIT",
            InstanceState::Low => "LU",
            InstanceState::Medium => "MU",
            InstanceState::High => "HU",
            InstanceState::Sundown => "SUNDOWN",
            InstanceState::Spare => "SPARE",
            InstanceState::Failed => "FAILED",
        }
    }
}

/// An instance, as operators see it.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// Its name.
    pub name: String,
    /// Its place in the pool.
    pub number: u32,
    /// Where it is reached.
    pub endpoint: Option<SocketAddr>,
    /// Its state.
    pub state: InstanceState,
    /// What the driver says it does.
    pub phase: String,
    /// What it is for.
    pub role: Role,
    /// Since when it has this role.
    pub since: Duration,
    /// Why it is as it is.
    pub reason: String,
    /// Whether that is a reason of trouble.
    pub is_in_trouble: bool,
    /// The host that has it; `None` while none has room.
    pub host: Option<HostName>,
    /// What is being done with it.
    pub doing: Option<&'static str>,
    /// Its scores, once it serves.
    pub score: Option<Score>,
    /// Whether it was made by the present settings.
    pub is_current: bool,
}

/// What readers of streams see of an instance: its name, endpoint and state, and its overall score in hundredths. Scores move
/// all the time; two digits are enough.
pub type Seen<'a> = (&'a str, Option<SocketAddr>, InstanceState, Option<u8>);

impl InstanceView {
    /// What readers of streams see of it.
    #[must_use]
    pub fn seen(&self) -> Seen<'_> {
        // From 0 to 100.
        let overall = self
            .score
            .map(|score| (score.overall * 100.0).round() as u8);
        (&self.name, self.endpoint, self.state, overall)
    }
}

impl Pool {
    /// Its instances, by number.
    #[must_use]
    pub fn view(&self, now: Now) -> Vec<InstanceView> {
        let view = |(number, slot): (&u32, &Slot)| InstanceView {
            name: slot.record.name.to_string(),
            number: *number,
            endpoint: self.spec.endpoint(*number),
            state: Self::state(slot, self.power, now),
            score: slot.score,
            phase: slot
                .seen
                .as_ref()
                .map_or_else(|| "absent".to_owned(), |seen| seen.phase.to_string()),
            role: slot.record.role,
            since: slot.record.since,
            reason: reason(slot),
            is_in_trouble: slot.no_room.is_some() || slot.trouble.is_some(),
            host: slot.record.host.clone(),
            doing: slot.step,
            is_current: slot.record.generation == self.generation,
        };
        self.slots.iter().map(view).collect()
    }

    fn state(slot: &Slot, power: Power, now: Now) -> InstanceState {
        match slot.record.role {
            Role::Draining | Role::Replacing | Role::Removing => InstanceState::Sundown,
            Role::Held | Role::Suspended => InstanceState::Spare,
            Role::Rebooting => InstanceState::Init,
            Role::Spare => InstanceState::Spare,
            Role::Serving | Role::Moving if power == Power::Suspended => InstanceState::Spare,
            // That it stands still for a moment is no failure.
            Role::Moving if slot.serves_while_it_moves() => state_of(slot.category),
            Role::Moving => InstanceState::Init,
            Role::Serving => match slot.vitality(now) {
                Vitality::Starting => InstanceState::Init,
                Vitality::Unhealthy | Vitality::Ended => InstanceState::Failed,
                Vitality::Alive => state_of(slot.category),
            },
        }
    }
}

/// The state of one that serves. Until its first score it has nothing to do.
fn state_of(category: Option<Category>) -> InstanceState {
    match category.unwrap_or(Category::Low) {
        Category::Low => InstanceState::Low,
        Category::Medium => InstanceState::Medium,
        Category::High => InstanceState::High,
    }
}

/// Why an instance is as it is.
fn reason(slot: &Slot) -> String {
    if let Some(no_room) = &slot.no_room {
        return no_room.text.clone();
    }
    if let Some(trouble) = &slot.trouble {
        return trouble.text.clone();
    }
    if let Some(fault) = slot.seen.as_ref().and_then(|seen| seen.fault.clone()) {
        return fault;
    }
    if !slot.last_end.is_empty() {
        return slot.last_end.clone();
    }
    if slot.is_up() && slot.health.is_up != Some(true) && !slot.health.reason.is_empty() {
        return slot.health.reason.clone();
    }
    slot.record.reason.clone()
}
