//! Between `lb.v1.Steering` and the agent's own type.

use std::time::Duration;

use lb_proto::{steering_fields, v1};

use crate::intent::Refusal;
use lb_steering::spec::{Kind, Steering};

/// As a message. What has its default is not set, except the controller and the period.
#[must_use]
pub fn to_proto(steering: &Steering) -> v1::Steering {
    let default = Steering::default();
    let mut message = v1::Steering {
        controller: Some(controller(steering.controller).into()),
        life: steering.life.and_then(time),
        ..v1::Steering::default()
    };
    macro_rules! set {
        ([$($number:ident,)*] [$($time:ident,)*]) => {
            $( message.$number = (steering.$number != default.$number).then_some(steering.$number); )*
            $( message.$time = (steering.$time != default.$time).then(|| time(steering.$time)).flatten(); )*
        };
    }
    steering_fields!(set);
    message.period = time(steering.period);
    message
}

/// From a message; what is not set gets its default.
///
/// # Errors
/// Names the field that cannot have its value, as a path that begins with `field`.
pub fn from_proto(message: v1::Steering, field: &str) -> Result<Steering, Refusal> {
    let mut steering = Steering::default();
    if let Some(number) = message.controller {
        steering.controller = kind(number, field)?;
    }
    let duration = |value: prost_types::Duration, name: &str| {
        Duration::try_from(value).map_err(|_| {
            Refusal::invalid(
                format!("{field}.{name}"),
                format!("{} s {} ns", value.seconds, value.nanos),
                "not a positive time",
            )
        })
    };
    steering.life = message
        .life
        .map(|life| duration(life, "life"))
        .transpose()?;
    macro_rules! set {
        ([$($number:ident,)*] [$($time:ident,)*]) => {
            $( if let Some(value) = message.$number { steering.$number = value; } )*
            $( if let Some(value) = message.$time { steering.$time = duration(value, stringify!($time))?; } )*
        };
    }
    steering_fields!(set);
    steering.validate().map_err(|(inside, value, advice)| {
        Refusal::invalid(format!("{field}.{inside}"), value, advice)
    })?;
    Ok(steering)
}

/// Every time of a valid specification fits.
fn time(time: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time).ok()
}

const fn controller(kind: Kind) -> v1::SteeringController {
    match kind {
        Kind::Capacity => v1::SteeringController::Capacity,
        Kind::Static => v1::SteeringController::Static,
        Kind::AgentCheck => v1::SteeringController::AgentCheck,
        Kind::Proportional => v1::SteeringController::Proportional,
        Kind::LeastConnections => v1::SteeringController::LeastConnections,
        Kind::Latency => v1::SteeringController::Latency,
    }
}

fn kind(number: i32, field: &str) -> Result<Kind, Refusal> {
    if number == i32::from(v1::SteeringController::Unspecified) {
        return Ok(Kind::default());
    }
    Kind::ALL
        .into_iter()
        .find(|kind| i32::from(controller(*kind)) == number)
        .ok_or_else(|| {
            Refusal::invalid(
                format!("{field}.controller"),
                number,
                "unknown, give STEERING_CONTROLLER_CAPACITY, _STATIC, _AGENT_CHECK, _PROPORTIONAL, \
                 _LEAST_CONNECTIONS or _LATENCY",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_back() {
        let mut steering = Steering::default();
        assert_eq!(to_proto(&steering).stale_periods, None);
        for kind in Kind::ALL {
            steering.controller = kind;
            assert_eq!(
                from_proto(to_proto(&steering), "spec.steering"),
                Ok(steering.clone())
            );
        }
        steering.life = Some(Duration::from_secs(3_600));
        macro_rules! change {
            ([$($number:ident,)*] [$($time:ident,)*]) => {
                $(
                    let mut changed = steering.clone();
                    changed.$number = half(f64::from(changed.$number)) as _;
                    check(&changed, stringify!($number));
                )*
                $(
                    let mut changed = steering.clone();
                    changed.$time += Duration::from_secs(1);
                    check(&changed, stringify!($time));
                )*
            };
        }
        fn half(value: f64) -> f64 {
            if value == 0.0 { 1.0 } else { value / 2.0 }
        }
        /// Valid or not: the value came through.
        fn check(changed: &Steering, field: &str) {
            match (from_proto(to_proto(changed), "s"), changed.validate()) {
                (Ok(back), Ok(())) => assert_eq!(back, *changed, "{field}"),
                (Err(Refusal::Invalid { field: named, .. }), Err((inside, _, _))) => {
                    assert_eq!(named, format!("s.{inside}"));
                }
                (back, valid) => panic!("{field}: {back:?}, {valid:?}"),
            }
        }
        steering_fields!(change);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_path() {
        let message = |change: fn(&mut v1::Steering)| {
            let mut message = v1::Steering::default();
            change(&mut message);
            match from_proto(message, "spec.steering").expect_err("refused") {
                Refusal::Invalid { field, .. } => field.into_owned(),
                other => panic!("{other}"),
            }
        };
        assert_eq!(
            message(|m| m.controller = Some(99)),
            "spec.steering.controller"
        );
        assert_eq!(message(|m| m.moved = Some(f64::NAN)), "spec.steering.moved");
        assert_eq!(
            message(|m| m.period = Some(prost_types::Duration {
                seconds: -1,
                nanos: 0
            })),
            "spec.steering.period"
        );
        assert_eq!(
            from_proto(v1::Steering::default(), "s"),
            Ok(Steering::default())
        );
    }
}
