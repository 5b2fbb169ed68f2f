//! The measuring program in the kernel, as user space sees it.

use anyhow::{Context as _, bail};
use aya::{
    Ebpf, EbpfLoader, Pod, TestRun as _,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, TestRunOptions, Xdp},
};
use lb_bench::machine::Undisturbed;
use lb_common::tables::bench::{
    JOB, Job, MAX_SEGMENTS, MAX_SEQUENCE, MAX_TARGETS, STATE, State, TARGETS, TIMES,
};

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Record<T>(pub T);

// SAFETY: whole words without padding; any bytes are a value.
unsafe impl Pod for Record<Job> {}
// SAFETY: likewise.
unsafe impl Pod for Record<State> {}

/// What a test run with output gave.
#[derive(Debug)]
pub struct Output {
    /// What the program answered, an XDP action.
    pub action: u32,
    /// The frame.
    pub frame: Vec<u8>,
}

/// The loaded program.
pub struct Driver {
    ebpf: Ebpf,
    targets: ProgramArray<MapData>,
    job: Array<MapData, Record<Job>>,
    state: Array<MapData, Record<State>>,
    times: Array<MapData, u64>,
    count: u32,
}

impl Driver {
    /// Loads it; target 0 is the program that does nothing.
    pub fn load() -> anyhow::Result<Driver> {
        let mut ebpf = EbpfLoader::new()
            .load(lb_dataplane::objects::BENCH)
            .context("making the measuring program's maps (root is needed)")?;
        for name in ["drive", "nothing"] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("loading the measuring program `{name}`"))?;
        }
        let mut take = |name: &str| {
            ebpf.take_map(name)
                .with_context(|| format!("the measuring program has no map {name}"))
        };
        let mut driver = Driver {
            targets: take(TARGETS)?.try_into()?,
            job: take(JOB)?.try_into()?,
            state: take(STATE)?.try_into()?,
            times: take(TIMES)?.try_into()?,
            count: 0,
            ebpf,
        };
        let nothing = xdp(&mut driver.ebpf, "nothing")?.fd()?.try_clone()?;
        driver.add("nothing", &nothing)?;
        Ok(driver)
    }

    /// Adds a program; gives its number.
    pub fn add(&mut self, name: &str, program: &ProgramFd) -> anyhow::Result<u32> {
        let number = self.count;
        if number as usize >= MAX_TARGETS {
            bail!("at most {} programs are held side by side", MAX_TARGETS - 1);
        }
        self.count += 1;
        self.replace(number, name, program)?;
        Ok(number)
    }

    /// Puts another program in a target's place.
    pub fn replace(&mut self, number: u32, name: &str, program: &ProgramFd) -> anyhow::Result<()> {
        // The kernel wants programs of one array to agree in these.
        self.targets.set(number, program, 0).with_context(|| {
            format!(
                "making {name} a target: its expected attach type must be XDP and it must not be flagged for \
                 multi-buffer frames (`xdp.frags`)"
            )
        })
    }

    /// Plays `rounds` rounds of a job. Gives nanoseconds per packet of each segment, in order, and where it
    /// ended.
    pub fn play(&mut self, job: &Job, rounds: u32) -> anyhow::Result<(Vec<f64>, State)> {
        let segments = rounds * job.rounds_of;
        if segments > MAX_SEGMENTS || job.rounds_of as usize > MAX_SEQUENCE {
            bail!("a run has at most {MAX_SEGMENTS} segments, not {segments}");
        }
        // The packet after the last one closes the last segment.
        let (_, state) = self.run(job, segments * job.segment + 1, false)?;
        let timed = f64::from(job.segment - job.untimed);
        let mut times = Vec::with_capacity(segments as usize);
        for segment in 0..segments {
            let time = self.times.get(&segment, 0).context("reading the times")?;
            times.push(time as f64 / timed);
        }
        Ok((times, state))
    }

    /// Runs the job's first packet only.
    pub fn once(&mut self, job: &Job) -> anyhow::Result<Output> {
        Ok(self.run(job, 1, true)?.0)
    }

    fn run(&mut self, job: &Job, packets: u32, output: bool) -> anyhow::Result<(Output, State)> {
        self.job
            .set(0, Record(*job), 0)
            .context("writing the job")?;
        self.state
            .set(0, Record(State::default()), 0)
            .context("writing the state")?;
        let template = template_bytes(job);
        let mut frame = vec![0; 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&template);
        options.repeat = packets;
        if output {
            options.data_out = Some(&mut frame);
        }
        let program = xdp(&mut self.ebpf, "drive")?;
        // A tenth of a second or so: other work on this processor waits, and is not counted as ours.
        let undisturbed = Undisturbed::begin();
        let result = program
            .test_run(options)
            .with_context(|| format!("a test run of {packets} packets"))?;
        drop(undisturbed);
        let state = self.state.get(&0, 0).context("reading the state")?.0;
        if state.missed + state.not_restored > 0 {
            bail!(
                "{} packets could not be restored and {} met no target",
                state.not_restored,
                state.missed
            );
        }
        frame.truncate(result.data_size_out as usize);
        Ok((
            Output {
                action: result.return_value,
                frame,
            },
            state,
        ))
    }
}

pub(super) fn xdp<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the measuring object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// The packet of a job, as it stands in the template.
pub(super) fn template_bytes(job: &Job) -> Vec<u8> {
    let mut bytes: Vec<u8> = job
        .template
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    bytes.truncate(job.length as usize);
    bytes
}
