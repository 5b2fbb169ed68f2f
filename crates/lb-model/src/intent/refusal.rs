//! Why a change is refused; nothing changes then.

use super::owner::Owner;
use crate::{
    settings::FieldError,
    vip::{RealId, VipKey},
};

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field has a value that it cannot have.
    /// The path leads into the request: `spec.weight`.
    #[error(transparent)]
    Invalid(FieldError),
    /// There is a VIP with this name.
    #[error("VIP {0} exists already; change it with UpdateVip (lbctl set-vip) or delete it first")]
    VipExists(VipKey),
    /// There is no VIP with this name.
    #[error("there is no VIP {0}; ListVips (lbctl list) shows those there are")]
    VipUnknown(VipKey),
    /// This VIP's reals stand in for another one's when those are down.
    #[error(
        "VIP {vip} stands in for {other}: give that another `when_empty` first (lbctl set-vip {other} --when-empty drop)"
    )]
    StandsIn {
        /// The VIP to delete.
        vip: VipKey,
        /// The VIP that names it.
        other: VipKey,
    },
    /// The VIP has this real.
    #[error("VIP {vip} has the real {real} already; change it with UpdateReal (lbctl set-real)")]
    RealExists {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: RealId,
    },
    /// The VIP has no such real.
    #[error("VIP {vip} has no real {real}; ListVips (lbctl list) shows those it has")]
    RealUnknown {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: RealId,
    },
    /// No VIP has this real.
    #[error("no VIP has the real {0}; ListVips (lbctl list) shows the reals there are")]
    NoSuchReal(RealId),
    /// The object belongs to another writer.
    #[error("{object} belongs to {}", advice(.owner))]
    OtherOwner {
        /// The VIP or the real, in words.
        object: String,
        /// To whom it belongs.
        owner: Owner,
    },
    /// The VIP has changed since the writer read it.
    #[error(
        "VIP {vip} is at revision {found}, not at {expected}: it was changed meanwhile; read it again (lbctl list {vip} -o wide) \
         and decide again"
    )]
    OtherRevision {
        /// The VIP.
        vip: VipKey,
        /// The revision that the writer expects.
        expected: u64,
        /// The revision that it has.
        found: u64,
    },
    /// A table has no room for it.
    #[error("the {table} table is full ({capacity} entries); {advice}")]
    Full {
        /// The table.
        table: &'static str,
        /// Entries there is room for.
        capacity: u64,
        /// What to do.
        advice: String,
    },
    /// It could not be stored.
    #[error(
        "the change could not be stored: {0}; nothing was changed, see that the state directory has room and can be written"
    )]
    Store(String),
    /// The data plane failed.
    #[error("the data plane failed: {0}; nothing was changed, the agent's log says more")]
    Dataplane(String),
    /// The agent is stopping.
    #[error("the agent is stopping; try again when it runs")]
    Stopping,
}

impl Refusal {
    /// A field with a value that it cannot have.
    pub fn invalid(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        advice: impl Into<String>,
    ) -> Self {
        Refusal::Invalid(FieldError::new(field, value, advice))
    }
}

impl From<FieldError> for Refusal {
    fn from(error: FieldError) -> Self {
        Refusal::Invalid(error)
    }
}

/// An owner, and how its objects are changed.
fn advice(owner: &Owner) -> String {
    match owner {
        Owner::File => "the agent's configuration file (owner file); change it there and reload (lbctl reload), or take \
                        it over with `force` (--force): the file then leaves it alone until `lbctl reload --force`"
            .to_owned(),
        Owner::Api => "the callers of the API (owner api); change it with lbctl, or take it over with `force` (--force)"
            .to_owned(),
        Owner::Controller(_) => format!(
            "{owner}; change it there, or take it over with `force` (--force): the controller then leaves it alone"
        ),
    }
}
