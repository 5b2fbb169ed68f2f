//! Steering as it is typed: a controller and its settings, `capacity period=5s life=1h`.

use lb_proto::{steering_fields, v1};

use super::{
    duration,
    words::{Text, Words},
};

/// Names of the controllers.
const CONTROLLERS: [(&str, v1::SteeringController); 6] = [
    ("capacity", v1::SteeringController::Capacity),
    ("static", v1::SteeringController::Static),
    ("agent-check", v1::SteeringController::AgentCheck),
    ("proportional", v1::SteeringController::Proportional),
    (
        "least-connections",
        v1::SteeringController::LeastConnections,
    ),
    ("latency", v1::SteeringController::Latency),
];

/// Measured by the agent.
const AUTO: &str = "auto";

/// Reads it. Whether a value is in range is the agent's answer.
///
/// # Errors
/// Names the word that is wrong.
pub fn read(text: &str) -> Result<v1::Steering, String> {
    let mut words = Words::read(text, "a controller", "capacity period=2s")?;
    let controller = CONTROLLERS
        .iter()
        .find(|(name, _)| *name == words.kind)
        .map(|(_, controller)| *controller)
        .ok_or_else(|| {
            let names: Vec<&str> = CONTROLLERS.iter().map(|(name, _)| *name).collect();
            format!(
                "`{}` is no controller; write one of {}",
                words.kind,
                names.join(", ")
            )
        })?;
    let time = |text: &str| duration::read(text).map(duration::to_proto);
    let mut steering = v1::Steering {
        controller: Some(controller.into()),
        life: words
            .with("life", |text| {
                if text == AUTO {
                    Ok(None)
                } else {
                    time(text).map(Some)
                }
            })?
            .flatten(),
        ..v1::Steering::default()
    };
    macro_rules! take {
        ([$($number:ident,)*] [$($time:ident,)*]) => {
            $( steering.$number = words.take(stringify!($number))?; )*
            $( steering.$time = words.with(stringify!($time), time)?; )*
        };
    }
    steering_fields!(take);
    words.end()?;
    Ok(steering)
}

/// Writes it so that [`read`] gives it back: the controller and what is set.
#[must_use]
pub fn write(steering: &v1::Steering) -> String {
    let controller = steering.controller.unwrap_or_default();
    let name = CONTROLLERS
        .iter()
        .find(|(_, other)| i32::from(*other) == controller)
        .map_or(CONTROLLERS[0].0, |(name, _)| *name);
    let mut text = Text::new(name);
    text.time("life", steering.life);
    macro_rules! put {
        ([$($number:ident,)*] [$($time:ident,)*]) => {
            $( text.set(stringify!($number), steering.$number); )*
            $( text.time(stringify!($time), steering.$time); )*
        };
    }
    steering_fields!(put);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "capacity",
            "static slow_start_from=0.5 slow_start=1m30s",
            "agent-check",
            "proportional exponent=0.5 period=2s",
            "least-connections life=1h overload_periods=4 horizon=2m",
            "latency latency_decay=10s",
        ] {
            assert_eq!(write(&read(text).unwrap()), text);
        }
        assert_eq!(
            read("capacity life=auto").unwrap(),
            read("capacity").unwrap()
        );
        assert_eq!(
            read("static slow-start=90s").unwrap(),
            read("static slow_start=1m30s").unwrap()
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, names) in [
            ("fastest", "`fastest` is no controller"),
            ("capacity perod=1s", "no setting `perod`"),
            ("capacity period=5", "period=5"),
            ("capacity moved=much", "moved=much"),
            ("capacity overload_periods=1.5", "overload_periods=1.5"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(names), "{text}: {error}");
        }
    }
}
