//! stub
use lb_model::{component::Registry, intent::Kinds};
pub static KINDS: Kinds = Kinds {
    probes: Registry {
        family: "probe",
        key: "kind",
        kinds: &[],
    },
    readers: Registry {
        family: "load reader",
        key: "kind",
        kinds: &[],
    },
    controllers: Registry {
        family: "controller",
        key: "controller",
        kinds: &[],
    },
    sheds: Registry {
        family: "way of shedding",
        key: "by",
        kinds: &[],
    },
};
