//! The data plane resets flows.

use lb_model::component::refuse_unused;

use super::ShedKind;

pub(super) static KIND: ShedKind = ShedKind::of_data_plane::<Reset>(
    "reset",
    "The data plane resets flows of the real, so that clients reconnect.",
)
.completed_by(|shedding| {
    let unused = [
        "port", "address", "username", "password", "token", "timeout", "tls",
    ];
    refuse_unused(shedding, "reset", &unused)
});

lb_model::settings! {
    /// Flows are reset.
    #[derive(Eq, Default)]
    pub struct Reset {}
}
