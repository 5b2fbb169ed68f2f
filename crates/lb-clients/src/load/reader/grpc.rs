//! `lb.v1.LoadReport`: what `lb-agent report` serves, and whatever else implements it.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use lb_proto::v1::{self, load_report_client::LoadReportClient};

use super::Poll;
use crate::load::{
    reading::{Answer, Quantity, Sample},
    spec::Source,
};
use crate::peer::{Deadline, Stream, Target, TlsClient, grpc::exchange};

/// Bytes of a report at most; one with notes has some hundreds.
const MAX_MESSAGE: usize = 64 << 10;

/// A clock may be set: time between two reports that is so much longer than what went by here is none. The longest
/// time between two reports of our own reporter.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// What a report counts, and when that came.
#[derive(Clone, Copy, Debug)]
struct Counted {
    /// Seconds of the whole CPU limit.
    used: f64,
    /// By the reporter's clock, seconds since 1970.
    taken: f64,
    came: Instant,
}

impl Counted {
    fn of(report: &v1::ReportedLoad, came: Instant) -> Option<Self> {
        Some(Counted {
            used: report.cpu_seconds?,
            taken: taken(report)?,
            came,
        })
    }

    /// Mean of the CPU since then: a report tells of the last second only, and what is between two questions counts
    /// as well. None: it is the same report, it began anew, or a clock was set.
    fn mean_since(&self, before: &Counted) -> Option<f64> {
        let (used, time) = (self.used - before.used, self.taken - before.taken);
        let here = self.came.saturating_duration_since(before.came) + CLOCK_STEP;
        (used >= 0.0 && time > 0.0 && time <= here.as_secs_f64()).then(|| used / time)
    }
}

/// When a report was taken, by its own clock, seconds since 1970.
fn taken(report: &v1::ReportedLoad) -> Option<f64> {
    report
        .taken_at
        .map(|at| at.seconds as f64 + f64::from(at.nanos) / 1e9)
}

/// What a report says, with the mean of the CPU since the last one if that is known. What it does not know is left
/// out; when it was taken is its pulse, so a reporter that repeats an old one is found.
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
        pulse: taken(report),
        ..Answer::of(samples)
    }
}

/// Polls the service over a connection of its own each time.
#[derive(Debug)]
pub struct Grpc {
    target: Target,
    tls: Option<TlsClient>,
    authority: String,
    before: Option<Counted>,
}

impl Grpc {
    /// The service of the source at this real.
    #[must_use]
    pub fn new(source: &Source, real: IpAddr) -> Self {
        let address = source.target(real);
        let name = source.tls.as_ref().and_then(|tls| tls.server_name.clone());
        Grpc {
            target: Target {
                address,
                mark: None,
            },
            tls: source.tls.clone().map(|tls| TlsClient::new(tls, &["h2"])),
            authority: name.unwrap_or_else(|| address.to_string()),
            before: None,
        }
    }

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
            let now = Counted::of(&report, Instant::now());
            let before = std::mem::replace(&mut self.before, now);
            let mean = now
                .zip(before)
                .and_then(|(now, then)| now.mean_since(&then));
            let answer = read(&report, mean);
            if answer.samples.is_empty() {
                let why = match &report.notes[..] {
                    [] => "it says not why".to_owned(),
                    notes => notes.join("; "),
                };
                return Err(format!("{}: knows nothing: {why}", self.target.address));
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_there() {
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
        assert_eq!(answer.pulse, Some(7.5));
        assert_eq!(
            answer.samples,
            [
                Sample::new(Quantity::Utilisation, 0.5),
                Sample::new(Quantity::Connections, 3.0)
            ]
        );
    }

    #[test]
    fn the_mean_between_two_questions_counts() {
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
        let counted = |second: i64, used: f64, came: u64| {
            Counted::of(&report(second, used), start + Duration::from_secs(came)).unwrap()
        };
        let first = counted(0, 10.0, 0);
        assert_eq!(counted(5, 12.5, 5).mean_since(&first), Some(0.5));
        // The same report again.
        assert_eq!(counted(0, 10.0, 5).mean_since(&first), None);
        // The reporter began anew.
        assert_eq!(counted(5, 0.5, 5).mean_since(&first), None);
        // Its clock was set.
        assert_eq!(counted(-3_600, 12.5, 5).mean_since(&first), None);
        assert_eq!(counted(3_600, 12.5, 5).mean_since(&first), None);

        let utilisation = |mean| read(&report(5, 12.5), mean).get(Quantity::Utilisation);
        assert_eq!(utilisation(Some(0.5)), Some(0.5));
        assert_eq!(utilisation(None), Some(0.9));
    }
}
