//! `lb.v1.LoadReport`: what `lb-agent report` serves, and whatever else implements it.

use std::net::IpAddr;

use futures::future::BoxFuture;
use lb_proto::v1::{self, load_report_client::LoadReportClient};

use super::Poll;
use crate::{
    load::{
        reading::{Answer, Quantity, Sample},
        spec::Source,
    },
    peer::{Deadline, Stream, Target, TlsClient, grpc::exchange},
};

/// Bytes of a report at most; one with notes has some hundreds.
const MAX_MESSAGE: usize = 64 << 10;

/// What a report says. What it does not know is left out; when it was taken is its pulse, so a reporter that
/// repeats an old one is found.
#[must_use]
pub fn read(report: &v1::ReportedLoad) -> Answer {
    let samples = [
        (Quantity::Utilisation, report.cpu),
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
    let pulse = report
        .taken_at
        .map(|at| at.seconds as f64 + f64::from(at.nanos) / 1e9);
    Answer {
        pulse,
        ..Answer::of(samples)
    }
}

/// Polls the service over a connection of its own each time.
#[derive(Debug)]
pub struct Grpc {
    target: Target,
    tls: Option<TlsClient>,
    authority: String,
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
            let answer = read(&report);
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
        let answer = read(&report);
        assert_eq!(answer.pulse, Some(7.5));
        assert_eq!(
            answer.samples,
            [
                Sample::new(Quantity::Utilisation, 0.5),
                Sample::new(Quantity::Connections, 3.0)
            ]
        );
    }
}
