//! What is wanted of a service: whether it can be, and what of it the tables say.

use std::{collections::HashSet, net::IpAddr};

use lb_common::{
    limits::{MAX_RING_SLOTS, STAMP_TICKS, ticks_from_millis},
    tables::real::{DOWN, RESET},
    vip::Protocol,
};

use super::{DataplaneError, NO_REAL, OnDown, WantedService, engine::mode_flags, error::system};

/// What becomes of a real's flows; `None`: it is alive.
pub fn fate(wanted: &WantedService, real: IpAddr) -> Option<OnDown> {
    match wanted.down.get(&real)? {
        OnDown::Reset if wanted.vip.protocol != Protocol::Tcp => Some(OnDown::Rehash),
        fate => Some(*fate),
    }
}

/// [`lb_common::tables::real::Real::flags`] without [`SHED`].
pub fn real_flags(wanted: &WantedService, real: IpAddr) -> u32 {
    mode_flags(real, wanted.forward)
        | match fate(wanted, real) {
            // What is kept is as with a drained real: only the ring knows.
            None | Some(OnDown::Keep) => 0,
            Some(OnDown::Rehash) => DOWN,
            Some(OnDown::Reset) => RESET,
        }
}

/// A running flow's stamp is up to [`STAMP_TICKS`] older than its last packet.
pub fn window_ticks(wanted: &WantedService) -> u32 {
    let millis = u64::try_from(wanted.window.as_millis())
        .unwrap_or(u64::MAX)
        .min(1 << 40);
    ticks_from_millis(millis)
        .saturating_add(STAMP_TICKS)
        .min(u32::MAX / 2)
}

/// Whether it holds together.
///
/// # Errors
/// [`DataplaneError::System`]: who asks for it is at fault.
pub fn check(wanted: &WantedService) -> Result<(), DataplaneError> {
    let fault = |what: String| Err(system(format!("setting the service {}", wanted.vip))(what));
    let mut seen = HashSet::new();
    if let Some(twice) = wanted.reals.iter().find(|address| !seen.insert(**address)) {
        return fault(format!("the real {twice} is listed twice"));
    }
    if wanted.ring.len() > MAX_RING_SLOTS as usize {
        return fault(format!(
            "a ring of {} slots; {MAX_RING_SLOTS} is the limit",
            wanted.ring.len()
        ));
    }
    if let Some(slot) = wanted
        .ring
        .iter()
        .find(|&&real| real != NO_REAL && usize::from(real) >= wanted.reals.len())
    {
        return fault(format!(
            "the ring names real {slot} of {}",
            wanted.reals.len()
        ));
    }
    if let Some(stranger) = wanted
        .down
        .keys()
        .find(|address| !wanted.reals.contains(address))
    {
        return fault(format!("{stranger} is down but none of its reals"));
    }
    let dead: Vec<bool> = wanted
        .reals
        .iter()
        .map(|address| wanted.down.contains_key(address))
        .collect();
    if let Some(slot) = wanted
        .ring
        .iter()
        .find(|&&real| real != NO_REAL && dead[usize::from(real)])
    {
        return fault(format!("the ring names real {slot}, which is down"));
    }
    Ok(())
}
