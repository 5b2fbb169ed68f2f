//! The connection of one host: who it is, its signs of life, and its hints.

use std::time::Duration;

use lb_hosts::{BEAT, accept::Attached, authority::Subject};
use lb_proto::host::v1::{self, host_client::HostClient};
use tokio::time::timeout;
use tonic::transport::Channel;

use super::{Connection, Hosts, placement::Claim};

/// See [`lb_serve::vital`].
pub const LINK: &str = "the task that follows a host";
/// How long a host may take to say who it is.
const ASK: Duration = Duration::from_secs(5);
/// A host without a sign of life for so long is not connected.
const SILENCE: Duration = BEAT.saturating_mul(4);
/// One without a sign of life for so long is left alone: what does not answer there cannot be made again there, and its
/// connection may be about to end.
const QUIET: Duration = BEAT.saturating_mul(3).checked_div(2).unwrap();

/// Why a host that has connected is not followed.
enum Unwanted {
    /// It is told so.
    Refused(String),
    /// It does not answer.
    Broken(String),
}

/// Follows a host until its connection ends.
pub(super) async fn follow(hosts: Hosts, mut attached: Attached) {
    let (name, from) = (attached.subject.name.clone(), attached.from);
    let description = match describe(&hosts, &attached.subject, &mut attached.client).await {
        Ok(description) => description,
        Err(Unwanted::Broken(why)) => {
            tracing::warn!("host {name} at {from}: {why}");
            return;
        }
        Err(Unwanted::Refused(why)) => {
            tracing::error!("host {name} at {from} is refused: {why}");
            hosts.note_refusal(&name, Some(format!("at {from}: {why}")));
            let request = v1::RefuseRequest { reason: why };
            // It may have gone.
            let _ = timeout(ASK, attached.client.refuse(request)).await;
            return;
        }
    };
    let watching = timeout(ASK, attached.client.watch(v1::WatchRequest {})).await;
    let mut stream = match watching {
        Ok(Ok(stream)) => stream.into_inner(),
        Ok(Err(status)) => {
            tracing::warn!("host {name} at {from}: {}", status.message());
            return;
        }
        Err(_) => {
            tracing::warn!("host {name} at {from} does not answer");
            return;
        }
    };
    hosts.note_refusal(&name, None);
    let connection = Connection {
        from,
        capacity: Claim::new(description.cpu, description.memory),
        labels: description.labels.into_iter().collect(),
        version: description.version,
        drivers: description.drivers,
    };
    let Some((number, remote)) = hosts.connected(&name, connection, attached.client) else {
        return;
    };
    let mut is_quiet = false;
    let why = loop {
        let patience = if is_quiet { SILENCE - QUIET } else { QUIET };
        let next = tokio::select! {
            next = timeout(patience, stream.message()) => next,
            _ = attached.end.changed() => break "its connection has ended".to_owned(),
        };
        if next.is_err() != is_quiet {
            hosts.quiet(&name, number, next.is_err());
        }
        match next {
            Err(_) if !is_quiet => {
                is_quiet = true;
                continue;
            }
            _ => is_quiet = false,
        }
        match next {
            Ok(Ok(Some(hint))) if hint.driver.is_empty() => {
                // Its certificate, or its record, may be no longer good.
                if let Err(why) = hosts.check(&attached.subject) {
                    break why;
                }
            }
            Ok(Ok(Some(hint))) => remote.hint(&hint),
            Ok(Ok(None)) => break "it has ended its connection".to_owned(),
            Ok(Err(status)) => break status.message().to_owned(),
            Err(_) => break format!("no sign of life for {SILENCE:?}"),
        }
    };
    hosts.disconnected(&name, number, &why);
}

async fn describe(
    hosts: &Hosts,
    subject: &Subject,
    client: &mut HostClient<Channel>,
) -> Result<v1::Description, Unwanted> {
    hosts.check(subject).map_err(Unwanted::Refused)?;
    let request = v1::DescribeRequest {
        controller: hosts.controller().to_owned(),
    };
    let answer = match timeout(ASK, client.describe(request)).await {
        Err(_) => return Err(Unwanted::Broken("it does not say who it is".to_owned())),
        Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
            return Err(Unwanted::Refused(status.message().to_owned()));
        }
        Ok(Err(status)) => return Err(Unwanted::Broken(status.message().to_owned())),
        Ok(Ok(answer)) => answer.into_inner(),
    };
    if answer.name != subject.name.as_str() {
        return Err(Unwanted::Refused(format!(
            "it answers as {:?}, and its certificate is that of {}; give it back the folder of its own, or have it join again",
            answer.name, subject.name
        )));
    }
    if !(answer.cpu.is_finite() && answer.cpu >= 0.0) {
        return Err(Unwanted::Refused(
            "it says that it has no number of cores".to_owned(),
        ));
    }
    Ok(answer)
}
