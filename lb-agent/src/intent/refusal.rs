//! Why a change was refused; nothing has changed then.

use std::{borrow::Cow, net::IpAddr};

use lb_model::vip::VipKey;

use lb_dataplane::DataplaneError;

/// Why a change was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field has a value that it cannot have.
    #[error("{field}: {value}: {advice}")]
    Invalid {
        /// The field, as a path into the request (`spec.weight`).
        field: Cow<'static, str>,
        /// The offending value.
        value: String,
        /// What is wrong with it and what would be right.
        advice: String,
    },
    /// There is a VIP with this name.
    #[error("VIP {0} exists already; change it with UpdateVip (lbctl set-vip) or delete it first")]
    VipExists(VipKey),
    /// There is no VIP with this name.
    #[error("there is no VIP {0}; ListVips (lbctl list) shows those there are")]
    VipUnknown(VipKey),
    /// Another VIP's reals are to be replaced by this one's when they are dead.
    #[error(
        "VIP {vip} stands in for {other}: give that another `when_empty` first (lbctl set-vip {other} --when-empty drop)"
    )]
    StandsIn {
        /// The VIP that is to go.
        vip: VipKey,
        /// The one that needs it.
        other: VipKey,
    },
    /// The VIP has this real.
    #[error("VIP {vip} has the real {real} already; change it with UpdateReal (lbctl set-real)")]
    RealExists {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: IpAddr,
    },
    /// The VIP has no such real.
    #[error("VIP {vip} has no real {real}; ListVips (lbctl list) shows those it has")]
    RealUnknown {
        /// The VIP.
        vip: VipKey,
        /// The real.
        real: IpAddr,
    },
    /// No VIP has this real.
    #[error("no VIP has the real {0}; ListVips (lbctl list) shows the reals there are")]
    NoSuchReal(IpAddr),
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
    /// The agent ends.
    #[error("the agent is stopping; try again when it runs")]
    Stopping,
}

impl Refusal {
    /// A field with a value that it cannot have.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        value: impl ToString,
        advice: impl Into<String>,
    ) -> Self {
        Refusal::Invalid {
            field: field.into(),
            value: value.to_string(),
            advice: advice.into(),
        }
    }
}

impl From<&DataplaneError> for Refusal {
    fn from(error: &DataplaneError) -> Self {
        match error {
            DataplaneError::Full {
                table,
                capacity,
                advice,
            } => Refusal::Full {
                table,
                capacity: *capacity,
                advice: (*advice).to_owned(),
            },
            other => Refusal::Dataplane(other.to_string()),
        }
    }
}
