//! Ranges of values, and how what is out of them is told.

use std::time::Duration;

use super::Fault;
use lb_model::duration;

pub fn fault(field: &str, value: impl ToString, advice: impl Into<String>) -> Fault {
    (field.to_owned(), value.to_string(), advice.into())
}

pub fn times(
    field: &str,
    time: Duration,
    shortest: Duration,
    longest: Duration,
) -> Result<(), Fault> {
    if (shortest..=longest).contains(&time) {
        return Ok(());
    }
    let [shortest, longest] = [shortest, longest].map(duration::format);
    Err(fault(
        field,
        duration::format(time),
        format!("out of range, give {shortest} to {longest}"),
    ))
}

pub fn numbers(field: &str, number: u32, least: u32, most: u32) -> Result<(), Fault> {
    if (least..=most).contains(&number) {
        return Ok(());
    }
    Err(fault(
        field,
        number,
        format!("out of range, give {least} to {most}"),
    ))
}

pub fn port(field: &str, port: Option<u16>) -> Result<(), Fault> {
    match port {
        Some(0) => Err(fault(field, 0, "out of range, give 1 to 65535")),
        _ => Ok(()),
    }
}

pub fn length(field: &str, length: usize, most: usize) -> Result<(), Fault> {
    if length <= most {
        return Ok(());
    }
    Err(fault(
        field,
        format!("{length} bytes"),
        format!("too long, give {most} bytes at most"),
    ))
}
