//! Running the program on one frame, in the kernel and on the live tables.

use aya::programs::{TestRun as _, TestRunOptions};
use lb_common::{
    reason::{ChosenBy, Reason, Verdict},
    tables::trace::Trace,
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
    Ok(Run {
        verdict,
        reason,
        chosen_by,
        service,
        real,
        packet: out,
    })
}
