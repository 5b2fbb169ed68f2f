//! The service `lb.v1.LoadReport`, which `lb-agent report` serves.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use lb_proto::v1::{self, load_report_client::LoadReportClient};

use super::{
    Poll,
    kind::{LoadReader, NoSettings, Reader, SourceTarget, Transport},
};
use crate::load::reading::{Answer, Quantity, Sample};
use crate::peer::{Deadline, Stream, Target, TlsClient, grpc::exchange};

/// Bytes of a report at most. A report with notes has some hundreds.
const MAX_MESSAGE: usize = 64 << 10;

/// If the time between two reports exceeds the time that passed here by more than this, the reporter's clock was set.
/// The value is the longest interval of `lb-agent report`.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// The CPU counter of a report, with its times.
#[derive(Clone, Copy, Debug)]
struct CpuCounter {
    /// Used CPU in seconds of the whole limit.
    used: f64,
    /// When the report was taken by the reporter's clock, in seconds since 1970.
    taken_at: f64,
    received_at: Instant,
}

impl CpuCounter {
    fn new(report: &v1::ReportedLoad, received_at: Instant) -> Option<Self> {
        Some(CpuCounter {
            used: report.cpu_seconds?,
            taken_at: taken_at(report)?,
            received_at,
        })
    }

    /// Returns the mean CPU use since `previous`. A report covers only the last second, but the time between two polls
    /// counts as well. Returns `None` if it is the same report, the reporter was restarted, or its clock was set.
    fn mean_since(&self, previous: &CpuCounter) -> Option<f64> {
        let (used, time) = (self.used - previous.used, self.taken_at - previous.taken_at);
        let longest = self
            .received_at
            .saturating_duration_since(previous.received_at)
            + CLOCK_STEP;
        (used >= 0.0 && time > 0.0 && time <= longest.as_secs_f64()).then(|| used / time)
    }
}

/// Returns when a report was taken by the reporter's clock, in seconds since 1970.
fn taken_at(report: &v1::ReportedLoad) -> Option<f64> {
    report
        .taken_at
        .map(|at| at.seconds as f64 + f64::from(at.nanos) / 1e9)
}

/// Converts a report to an answer, with the mean CPU use since the last report if it is known. Unknown values are left
/// out. The time of the report is its progress, so a reporter that repeats an old report counts as frozen.
fn read(report: &v1::ReportedLoad, mean: Option<f64>) -> Answer {
    let samples = [
        (Quantity::Utilisation, mean.or(report.cpu)),
        (Quantity::Memory, report.memory),
        (Quantity::FileDescriptors, report.file_descriptors),
        (Quantity::Network, report.network),
        (
            Quantity::Connections,
            report.connections.map(|count| count as f64),
        ),
    ];
    let samples = samples
        .into_iter()
        .filter_map(|(quantity, value)| Some(Sample::new(quantity, value?)))
        .collect();
    Answer {
        progress: taken_at(report),
        ..Answer::from_samples(samples)
    }
}

pub(super) static KIND: super::ReaderKind = super::ReaderKind::of::<Grpc>();

/// Polls the service over a new connection each time.
#[derive(Debug)]
pub(super) struct Grpc {
    target: Target,
    tls: Option<TlsClient>,
    authority: String,
    previous: Option<CpuCounter>,
}

impl LoadReader for Grpc {
    const NAME: &'static str = "grpc";
    const HELP: &'static str = "Calls the service `lb.v1.LoadReport`, which `lb-agent report` serves; utilisation and memory \
                                are of the subject's own limits.";
    const TRANSPORT: Transport = Transport::Grpc;
    /// A host's reporter counts every connection of the host.
    const COUNTS_CLIENTS: bool = false;

    type Settings = NoSettings;

    fn open(_: NoSettings, target: &SourceTarget<'_>) -> Reader {
        let server_name = target.tls().and_then(|tls| tls.server_name);
        Reader::Poll(Box::new(Grpc {
            target: Target {
                address: target.address,
                mark: None,
            },
            tls: target.tls_client(&["h2"]),
            authority: server_name.unwrap_or_else(|| target.address.to_string()),
            previous: None,
        }))
    }
}

impl Grpc {
    async fn get(&mut self, deadline: &Deadline) -> Result<v1::ReportedLoad, String> {
        let stream = Stream::open(&self.target, self.tls.as_mut(), deadline)
            .await
            .map_err(|error| error.to_string())?;
        let answer = exchange(stream, &self.authority, deadline, |channel, origin| async {
            LoadReportClient::with_origin(channel, origin)
                .max_decoding_message_size(MAX_MESSAGE)
                .get(v1::GetLoadRequest {})
                .await
        })
        .await
        .map_err(|error| error.to_string())?;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| match status.code() {
                tonic::Code::Unimplemented => {
                    "there is no service lb.v1.LoadReport; check the source's port, or start `lb-agent \
                     report` there"
                        .to_owned()
                }
                code => format!("answered {code:?}: {}", status.message()),
            })
    }
}

impl Poll for Grpc {
    fn poll<'a>(&'a mut self, deadline: &'a Deadline) -> BoxFuture<'a, Result<Answer, String>> {
        Box::pin(async {
            let report = self
                .get(deadline)
                .await
                .map_err(|reason| format!("{}: {reason}", self.target.address))?;
            let counter = CpuCounter::new(&report, Instant::now());
            let previous = std::mem::replace(&mut self.previous, counter);
            let mean = counter
                .zip(previous)
                .and_then(|(counter, previous)| counter.mean_since(&previous));
            let answer = read(&report, mean);
            if answer.samples.is_empty() {
                let why = match &report.notes[..] {
                    [] => "the report gives no reason".to_owned(),
                    notes => notes.join("; "),
                };
                return Err(format!(
                    "{}: the report has no values: {why}",
                    self.target.address
                ));
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_are_left_out() {
        let report = v1::ReportedLoad {
            taken_at: Some(prost_types::Timestamp {
                seconds: 7,
                nanos: 500_000_000,
            }),
            cpu: Some(0.5),
            connections: Some(3),
            ..v1::ReportedLoad::default()
        };
        let answer = read(&report, None);
        assert_eq!(answer.progress, Some(7.5));
        assert_eq!(
            answer.samples,
            [
                Sample::new(Quantity::Utilisation, 0.5),
                Sample::new(Quantity::Connections, 3.0)
            ]
        );
    }

    #[test]
    fn the_mean_between_two_polls_counts() {
        let start = Instant::now();
        let report = |second: i64, used: f64| v1::ReportedLoad {
            taken_at: Some(prost_types::Timestamp {
                seconds: 1_000 + second,
                nanos: 0,
            }),
            cpu: Some(0.9),
            cpu_seconds: Some(used),
            ..v1::ReportedLoad::default()
        };
        let counter = |second: i64, used: f64, received: u64| {
            CpuCounter::new(&report(second, used), start + Duration::from_secs(received)).unwrap()
        };
        let first = counter(0, 10.0, 0);
        assert_eq!(counter(5, 12.5, 5).mean_since(&first), Some(0.5));
        // The same report again.
        assert_eq!(counter(0, 10.0, 5).mean_since(&first), None);
        // The reporter was restarted.
        assert_eq!(counter(5, 0.5, 5).mean_since(&first), None);
        // Its clock was set.
        assert_eq!(counter(-3_600, 12.5, 5).mean_since(&first), None);
        assert_eq!(counter(3_600, 12.5, 5).mean_since(&first), None);

        let utilisation = |mean| read(&report(5, 12.5), mean).get(Quantity::Utilisation);
        assert_eq!(utilisation(Some(0.5)), Some(0.5));
        assert_eq!(utilisation(None), Some(0.9));
    }
}
