//! Sends packets out of an interface: live frames of a test run.

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunAttrs,
    maps::{Array, MapData},
    programs::{TestRunOptions, Xdp, XdpMode},
};
use lb_common::tables::bench::{JOB, Job, STATE, State};
use lb_tests::Namespace;

use super::driver::{Record, template_bytes, xdp};

/// Frames that are made and sent at a time.
const BATCH: u32 = 64;

/// The sender. Frames that come back to its interface are dropped.
pub struct Generator {
    ebpf: Ebpf,
    job: Array<MapData, Record<Job>>,
    state: Array<MapData, Record<State>>,
}

impl Generator {
    /// Makes one that sends out of this interface.
    pub fn start(namespace: &Namespace, interface: &str) -> anyhow::Result<Generator> {
        let mut ebpf = EbpfLoader::new()
            .load(lb_dataplane::objects::BENCH)
            .context("making the measuring program's maps (root is needed)")?;
        for name in ["generate", "sink"] {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| format!("loading the measuring program `{name}`"))?;
        }
        let index = namespace.enter(|| -> anyhow::Result<u32> {
            let index = nix::net::if_::if_nametoindex(interface)?;
            let sink: &mut Xdp = xdp(&mut ebpf, "sink")?;
            sink.attach_to_if_index(index, XdpMode::Driver)
                .with_context(|| format!("attaching to {interface}"))?;
            Ok(index)
        })??;
        let mut output: Array<_, u32> = ebpf
            .take_map("OUTPUT")
            .context("no map OUTPUT")?
            .try_into()?;
        output.set(0, index, 0)?;
        let job = ebpf.take_map(JOB).context("no map JOB")?.try_into()?;
        let state = ebpf.take_map(STATE).context("no map STATE")?.try_into()?;
        Ok(Generator { ebpf, job, state })
    }

    /// Sends packets of a job, in `namespace`.
    pub fn send(&mut self, namespace: &Namespace, job: &Job, packets: u32) -> anyhow::Result<()> {
        self.job.set(0, Record(*job), 0)?;
        self.state.set(0, Record(State::default()), 0)?;
        let frame = template_bytes(job);
        let program = xdp(&mut self.ebpf, "generate")?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = packets;
        options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
        namespace
            .enter(|| program.test_run(options))?
            .with_context(|| format!("sending {packets} live frames"))?;
        Ok(())
    }
}
