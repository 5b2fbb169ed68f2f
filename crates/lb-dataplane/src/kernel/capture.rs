//! A capture in the kernel: for its time other programs are attached, which copy the wanted packets to the agent.
//! Without a capture no packet pays for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use aya::{
    Ebpf,
    maps::{
        Array, Map, MapData,
        perf::{PerfEvent, PerfEventArray, PerfEventArrayBuffer},
    },
};
use lb_common::{
    capture::{Account, Captured, Filter, HEAD, REAL_WORDS},
    limits::MAX_REALS,
    reason::{ChosenBy, Reason, Verdict},
    tables::names,
};

use super::backend::KernelBackend;
use crate::{
    backend::TableBackend as _,
    capture::{CaptureBatch, CaptureReader, CapturedPacket, original},
    error::{DataplaneError, system},
};

/// Pages of the buffer of each CPU and interface: room for 160 packets of 1,500 bytes.
const PAGES: usize = 64;

/// The filter in the kernel's terms.
pub(super) struct KernelFilter {
    /// Index of the service; 0: all.
    pub service: u32,
    /// Indices of the reals; `None`: all.
    pub reals: Option<Vec<u16>>,
    /// The reasons; empty: all.
    pub reasons: Vec<Reason>,
}

/// Attaches programs that capture to all interfaces that one is attached to.
///
/// # Errors
/// [`DataplaneError::CaptureRuns`], [`DataplaneError::System`]; the programs before stay in their places then.
pub(super) fn start(
    backend: &mut KernelBackend,
    filter: &KernelFilter,
) -> Result<Box<dyn CaptureReader>, DataplaneError> {
    if let Some(ended) = &backend.attachments.capture
        && !ended.load(Ordering::Relaxed)
    {
        return Err(DataplaneError::CaptureRuns);
    }
    let (meta, sizes) = (backend.meta(), backend.sizes());
    let maps = backend.attachments.maps();
    let mut programs = backend.attachments.reload(&maps, &sizes, &meta, true)?;
    let mut sources = Vec::new();
    for (interface, program) in backend.attachments.interfaces.iter().zip(&mut programs) {
        if let Some(program) = program {
            sources.push(Source::open(interface.name.clone(), program, filter)?);
        }
    }
    let ended = Arc::new(AtomicBool::new(false));
    backend.attachments.replace(programs)?;
    backend.attachments.capture = Some(Arc::clone(&ended));
    Ok(Box::new(Reader {
        sources,
        ended,
        boot: boot_time(),
    }))
}

/// Attaches the usual programs again, if a capture runs.
///
/// # Errors
/// [`DataplaneError::System`]; the programs that capture stay, and get no budget.
pub(super) fn stop(backend: &mut KernelBackend) -> Result<(), DataplaneError> {
    let Some(ended) = backend.attachments.capture.take() else {
        return Ok(());
    };
    // A larger generation of the tables came with the usual programs.
    if ended.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let (meta, sizes) = (backend.meta(), backend.sizes());
    let maps = backend.attachments.maps();
    let programs = backend.attachments.reload(&maps, &sizes, &meta, false)?;
    backend.attachments.replace(programs)
}

/// The wall clock at the time 0 of the kernel's monotonic clock.
fn boot_time() -> SystemTime {
    let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    let since = monotonic.map(Duration::from).unwrap_or_default();
    SystemTime::now()
        .checked_sub(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The buffers of one interface's program.
struct Source {
    interface: String,
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    accounts: Array<MapData, u64>,
    /// What was reported of [`Account::OverBudget`].
    over_budget: u64,
}

impl Source {
    fn open(
        interface: String,
        program: &mut Ebpf,
        filter: &KernelFilter,
    ) -> Result<Source, DataplaneError> {
        let mut kernel = Filter {
            service: filter.service,
            ..Filter::ALL
        };
        if !filter.reasons.is_empty() {
            kernel.reasons = filter
                .reasons
                .iter()
                .fold(0, |all, reason| all | 1 << *reason as u32);
        }
        if let Some(reals) = &filter.reals {
            kernel.by_real = 1;
            let mut words = vec![0_u64; REAL_WORDS as usize];
            for &real in reals.iter().filter(|real| u32::from(**real) < MAX_REALS) {
                words[usize::from(real / 64)] |= 1 << (real % 64);
            }
            let mut set: Array<MapData, u64> = map(program, names::CAPTURE_REALS)?;
            for (index, word) in (0..).zip(words) {
                set.set(index, word, 0)
                    .map_err(system("writing the filter of a capture"))?;
            }
        }
        let mut set: Array<MapData, [u64; 2]> = map(program, names::CAPTURE_FILTER)?;
        // The record's two words, as they lie in memory.
        let [a, b, c, d] = kernel.service.to_ne_bytes();
        let [e, f, g, h] = kernel.by_real.to_ne_bytes();
        let second = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
        set.set(0, [kernel.reasons, second], 0)
            .map_err(system("writing the filter of a capture"))?;
        let mut events: PerfEventArray<MapData> = map(program, names::CAPTURE_EVENTS)?;
        let cpus =
            aya::util::online_cpus().map_err(|(what, error)| system(what.to_owned())(error))?;
        let buffers = cpus
            .into_iter()
            .map(|cpu| events.open(cpu, Some(PAGES)))
            .collect::<Result<_, _>>()
            .map_err(system("making the buffers of a capture"))?;
        Ok(Source {
            interface,
            buffers,
            accounts: map(program, names::CAPTURE_ACCOUNTS)?,
            over_budget: 0,
        })
    }

    fn read(&mut self, budget: u64, boot: SystemTime, batch: &mut CaptureBatch) {
        let interface = &self.interface;
        for buffer in &mut self.buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Lost { count } => batch.lost += count,
                PerfEvent::Sample { head, tail } => {
                    let bytes = [head, tail].concat();
                    match packet(&bytes, interface, boot) {
                        Some(packet) => batch.packets.push(packet),
                        None => batch.lost += 1,
                    }
                }
            });
        }
        // What cannot be read or written now is at the next time.
        if let Ok(total) = self.accounts.get(&(Account::OverBudget as u32), 0) {
            batch.over_budget += total.saturating_sub(self.over_budget);
            self.over_budget = total;
        }
        let _ = self.accounts.set(Account::Credit as u32, budget, 0);
    }
}

fn map<T>(program: &mut Ebpf, name: &str) -> Result<T, DataplaneError>
where
    T: TryFrom<Map>,
    T::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let map = program.take_map(name).ok_or_else(|| {
        system(format!("finding the map {name}"))(
            "this build of lb-agent is broken; install another one",
        )
    })?;
    T::try_from(map).map_err(system(format!("opening the map {name}")))
}

/// The packet of an event, which begins with [`Captured`]; `None` if the program is of another build.
fn packet(bytes: &[u8], interface: &str, boot: SystemTime) -> Option<CapturedPacket> {
    let word = |at: usize| -> Option<u32> {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let trace = std::mem::offset_of!(Captured, trace);
    let time = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
    let number = word(trace)?;
    let reason = Reason::ALL
        .iter()
        .copied()
        .find(|reason| *reason as u32 == number)?;
    let chosen_by = ChosenBy::from_number(word(trace + 4)?)?;
    let indices = (word(trace + 8)?, word(trace + 12)?);
    let length = word(std::mem::offset_of!(Captured, length))?;
    let changed_length = word(std::mem::offset_of!(Captured, changed_length))?;
    let verdict = reason.verdict();
    let head = bytes
        .get(std::mem::offset_of!(Captured, head)..)?
        .get(..HEAD)?;
    // Behind the frame the kernel may have aligned the record.
    let changed = bytes.get(size_of::<Captured>()..)?;
    let changed = changed.get(..changed_length as usize).unwrap_or(changed);
    let forwarded = matches!(reason, Reason::ForwardedTx | Reason::ForwardedRedirect);
    let leaves = matches!(verdict, Verdict::Tx | Verdict::Redirect);
    Some(CapturedPacket {
        time: boot + Duration::from_nanos(time),
        interface: interface.to_owned(),
        verdict,
        reason,
        chosen_by,
        indices,
        original: (
            original(head, length, changed, changed_length, leaves && !forwarded),
            length,
        ),
        changed: leaves.then(|| (changed.to_vec(), changed_length)),
    })
}

/// The reader of a capture.
struct Reader {
    sources: Vec<Source>,
    ended: Arc<AtomicBool>,
    boot: SystemTime,
}

impl CaptureReader for Reader {
    fn read(&mut self, budget: u64) -> CaptureBatch {
        let mut batch = CaptureBatch::default();
        let share = budget.div_ceil(self.sources.len().max(1) as u64);
        for source in &mut self.sources {
            source.read(share, self.boot, &mut batch);
        }
        batch.packets.sort_by_key(|packet| packet.time);
        batch.ended = self.ended.load(Ordering::Relaxed).then(|| {
            "the tables have grown, and programs that capture were replaced; start the capture again"
                .to_owned()
        });
        batch
    }

    fn interfaces(&self) -> Vec<String> {
        self.sources
            .iter()
            .map(|source| source.interface.clone())
            .collect()
    }
}
