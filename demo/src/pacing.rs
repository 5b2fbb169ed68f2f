//! The pace of a run: a poll every half second, until it ends.

use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;

/// Interval at which the programs and the clients are asked for news.
const POLL: Duration = Duration::from_millis(500);

/// Polls per picture.
const POLLS_PER_PICTURE: u32 = 2;

/// Calls `poll` until the time since `begin` is over, or a signal arrives. Its argument says whether a picture is due.
pub fn pace(
    begin: Instant,
    time: Option<Duration>,
    interrupt: &Interrupt,
    mut poll: impl FnMut(bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let end = time.map(|time| begin + time);
    let mut next = begin;
    for number in 0_u32.. {
        poll(number % POLLS_PER_PICTURE == 0)?;
        next += POLL;
        let until = end.map_or(next, |end| next.min(end));
        if interrupt.wait_until(until) || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    Ok(())
}
