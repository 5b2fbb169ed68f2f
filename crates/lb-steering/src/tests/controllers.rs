//! The registry of controllers.

use lb_model::{component::Component, settings::Level};

use crate::{REGISTRY, Steering, VipSteering};

#[test]
fn each_kind_has_one_controller() {
    for kind in REGISTRY.kinds {
        let steering = VipSteering::new(Steering::of(kind.name));
        assert_eq!(steering.controller().kind().name, kind.name);
    }
    let names: Vec<_> = REGISTRY.kinds.iter().map(|kind| kind.name).collect();
    assert_eq!(
        names,
        [
            "capacity",
            "static",
            "agent-check",
            "proportional",
            "least-connections",
            "latency"
        ]
    );
    assert_eq!(names[0], lb_model::steering::DEFAULT_CONTROLLER);
}

#[test]
fn own_settings_are_for_experts() {
    for kind in REGISTRY.kinds {
        for field in (kind.fields)() {
            assert_eq!(field.level, Level::Expert, "{}: {}", kind.name, field.name);
        }
    }
}

#[test]
fn own_settings_reach_the_controller() {
    let mut settings = Steering::of("proportional");
    let step = |steering: &VipSteering| steering.controller().max_step(steering.settings());
    let mut steering = VipSteering::new(settings.clone());
    assert_eq!(step(&steering), 1.25);
    settings.controller = Component {
        settings: [("small_step".to_owned(), 2.0.into())]
            .into_iter()
            .collect(),
        ..settings.controller
    };
    assert_eq!(step(&VipSteering::new(settings.clone())), 2.0);
    steering.set_settings(settings);
    assert_eq!(step(&steering), 2.0);
}

#[test]
fn a_controller_refuses_settings_of_another() {
    let mut settings = Steering::of("proportional");
    let other = |settings: &Steering| REGISTRY.normalize(settings).map_err(|error| error.field);
    assert_eq!(
        other(&settings).unwrap().controller.settings["exponent"],
        0.3
    );
    settings
        .controller
        .settings
        .insert("latency_decay".to_owned(), "1s".into());
    assert_eq!(other(&settings).unwrap_err(), "latency_decay");
}
