//! Running the program on one frame, in the kernel and on the live tables.

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{TestRun as _, TestRunOptions},
};
use lb_common::{
    reason::{ChosenBy, Reason, Verdict},
    tables::{
        names,
        trace::{LookedUp, Trace},
    },
};

use super::{backend::KernelBackend, loader};
use crate::{
    backend::TableBackend as _,
    error::{DataplaneError, system},
    simulation::check_frame,
};

/// Room for outer headers.
const HEADROOM: usize = 256;

/// What the program decided.
pub(crate) struct Run {
    pub verdict: Verdict,
    pub reason: Reason,
    pub chosen_by: ChosenBy,
    pub service: u32,
    pub real: u32,
    pub packet: Vec<u8>,
    pub looked_up: LookedUp,
}

/// Runs the simulating program. `interface` is the index of the one the frame would come in on.
///
/// # Errors
/// [`DataplaneError::FrameLength`], [`DataplaneError::System`].
pub(crate) fn run(
    backend: &mut KernelBackend,
    interface: u32,
    frame: &[u8],
) -> Result<Run, DataplaneError> {
    check_frame(frame)?;
    let cleared = Trace {
        reason: u32::MAX,
        ..Trace::default()
    };
    let words = [
        cleared.reason,
        cleared.chosen_by,
        cleared.service,
        cleared.real,
    ];
    backend
        .tables
        .trace
        .set(0, words, 0)
        .map_err(system("clearing the trace"))?;
    looked_up(&mut backend.attachments.simulator)?
        .set(0, [0; 3], 0)
        .map_err(system("clearing what was looked up"))?;
    let mut out = vec![0; frame.len() + HEADROOM];
    let result = loader::program(&mut backend.attachments.simulator)?
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })
        .map_err(system("running the program on a frame"))?;
    out.truncate(result.data_size_out as usize);
    let [reason, chosen_by, service, real] = backend
        .tables
        .trace
        .get(&0, 0)
        .map_err(system("reading the trace"))?;
    let mut reason = Reason::ALL
        .iter()
        .copied()
        .find(|known| *known as u32 == reason)
        .ok_or_else(|| {
            system("reading the trace")(format!("the program gave the unknown reason {reason}"))
        })?;
    let mut verdict = match result.return_value {
        1 => Verdict::Drop,
        2 => Verdict::Pass,
        3 => Verdict::Tx,
        4 => Verdict::Redirect,
        other => {
            return Err(system("running the program on a frame")(format!(
                "it returned the unknown verdict {other}"
            )));
        }
    };
    // The simulating program belongs to no interface, so to it every next hop is behind another interface. An
    // attached program differs in nothing else.
    if reason == Reason::ForwardedRedirect
        && backend.next_hop(backend.real(real).next_hop).interface == interface
    {
        (reason, verdict) = (Reason::ForwardedTx, Verdict::Tx);
    }
    let chosen_by = ChosenBy::from_number(chosen_by).unwrap_or(ChosenBy::Nothing);
    let [entry_stamp, entry, slot] = looked_up(&mut backend.attachments.simulator)?
        .get(&0, 0)
        .map_err(system("reading what was looked up"))?;
    // Two words of 32 bits each, as they lie in memory.
    let halves = |word: u64| {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        (
            u32::from_ne_bytes([a, b, c, d]),
            u32::from_ne_bytes([e, f, g, h]),
        )
    };
    let ((entry_real, has_slot), (slot_place, slot)) = (halves(entry), halves(slot));
    Ok(Run {
        verdict,
        reason,
        chosen_by,
        service,
        real,
        packet: out,
        looked_up: LookedUp {
            entry_stamp,
            entry_real,
            has_slot,
            slot_place,
            slot,
        },
    })
}

/// The simulating program's record of what it looked up: three words.
fn looked_up(simulator: &mut Ebpf) -> Result<Array<&mut MapData, [u64; 3]>, DataplaneError> {
    let map = simulator.map_mut(names::LOOKED_UP).ok_or_else(|| {
        system(format!("finding the map {}", names::LOOKED_UP))(
            "this build of lb-agent is broken; install another one",
        )
    })?;
    Array::try_from(map).map_err(system(format!("opening the map {}", names::LOOKED_UP)))
}
