//! Copies of packets, as a stream.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use lb_common::reason::Reason;
use lb_dataplane::{CaptureBatch, CaptureFilter, CaptureReader, CapturedPacket};
use lb_model::{intent::Refusal, vip::VipKey};
use lb_proto::v1::{self, capture_event::Event};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    Api, ResponseStream, convert,
    error::{refused, unread},
    stats::verdict,
};

/// How often the kernel's buffers are read and the budget is renewed.
const INTERVAL: Duration = Duration::from_millis(20);
/// The longest capture.
const MAX_DURATION: Duration = Duration::from_secs(60 * 60);
/// Packets in a second: by default, at least (one in each interval) and at most.
const DEFAULT_RATE: u32 = 5_000;
const MIN_RATE: u32 = 50;
const MAX_RATE: u32 = 100_000;
/// Messages that wait for a client. What a slower one misses is lost in the kernel's buffers, and counted.
const QUEUE: usize = 256;

/// The limits of a capture.
struct Limits {
    /// Packets in all.
    count: u64,
    duration: Duration,
    /// Packets in an interval.
    budget: u64,
}

impl Api {
    pub(super) async fn capture_stream(
        &self,
        request: v1::CaptureRequest,
        cause: &str,
    ) -> Result<ResponseStream<v1::CaptureEvent>, Status> {
        let limits = limits(&request).map_err(refused)?;
        let filter = filter(request).map_err(refused)?;
        let reader = self.control.start_capture(filter).await.map_err(unread)?;
        // Payloads of clients leave the balancer: that is worth a line.
        tracing::info!("capture begins: {cause}");
        let (sender, receiver) = mpsc::channel(QUEUE);
        let api = self.clone();
        let cause = cause.to_owned();
        tokio::spawn(async move {
            let mut stopping = api.stopping.clone();
            let end = tokio::select! {
                end = api.relay(reader, &limits, &sender) => end,
                () = sender.closed() => None,
                () = lb_serve::stopped(&mut stopping) => Some(super::stopping()),
            };
            api.control.stop_capture().await;
            tracing::info!("capture has ended: {cause}");
            if let Some(status) = end {
                // The client may have gone.
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }

    /// Sends until a limit is reached or the client goes (`None`), or the capture fails (with the reason).
    async fn relay(
        &self,
        mut reader: Box<dyn CaptureReader>,
        limits: &Limits,
        sender: &mpsc::Sender<Result<v1::CaptureEvent, Status>>,
    ) -> Option<Status> {
        let send = async |event| {
            let message = v1::CaptureEvent { event: Some(event) };
            sender.send(Ok(message)).await.ok()
        };
        let started = v1::CaptureStarted {
            interfaces: reader.interfaces(),
        };
        // What came before nobody wanted.
        reader.read(limits.budget);
        send(Event::Started(started)).await?;
        let end = Instant::now() + limits.duration;
        let mut left = limits.count;
        let mut losses = v1::CaptureLosses::default();
        loop {
            let last = Instant::now() + INTERVAL >= end;
            tokio::time::sleep(INTERVAL).await;
            let batch = reader.read(if last { 0 } else { limits.budget.min(left) });
            let news = batch.lost + batch.over_budget > 0;
            losses.lost += batch.lost;
            losses.over_budget += batch.over_budget;
            let ended = batch.ended.clone();
            for packet in self.named(batch).await {
                if left > 0 {
                    left -= 1;
                    send(Event::Packet(packet)).await?;
                }
            }
            let over = last || left == 0 || ended.is_some();
            if news || over {
                send(Event::Losses(losses)).await?;
            }
            if let Some(reason) = ended {
                return Some(Status::aborted(reason));
            }
            if over {
                return None;
            }
        }
    }

    /// The packets with the names of their VIPs and reals.
    async fn named(&self, batch: CaptureBatch) -> Vec<v1::CapturedPacket> {
        if batch.packets.is_empty() {
            return Vec::new();
        }
        let indices: BTreeSet<(u32, u32)> =
            batch.packets.iter().map(|packet| packet.indices).collect();
        let indices: Vec<_> = indices.into_iter().collect();
        // A stopping agent knows no names.
        let names = self
            .control
            .capture_names(indices.clone())
            .await
            .unwrap_or_default();
        let names: HashMap<_, _> = indices.into_iter().zip(names).collect();
        let packets = batch.packets.into_iter();
        packets
            .map(|packet| {
                let (vip, real) = names.get(&packet.indices).copied().unwrap_or_default();
                let mut message = message(packet, vip);
                message.real = real.map(|real| real.to_string()).unwrap_or_default();
                message
            })
            .collect()
    }
}

fn message(packet: CapturedPacket, vip: Option<VipKey>) -> v1::CapturedPacket {
    let (original, original_length) = packet.original;
    let (changed, changed_length) = packet.changed.unwrap_or_default();
    v1::CapturedPacket {
        time: Some(convert::timestamp(packet.time)),
        interface: packet.interface,
        verdict: verdict(packet.verdict).to_owned(),
        reason: packet.reason.name().to_owned(),
        vip: vip.as_ref().map(convert::vip_id),
        real: String::new(),
        chosen_by: packet.chosen_by.name().to_owned(),
        original,
        original_length,
        changed,
        changed_length,
    }
}

fn filter(request: v1::CaptureRequest) -> Result<CaptureFilter, Refusal> {
    let reals = request.reals.iter();
    let reasons = request.reasons.iter();
    Ok(CaptureFilter {
        vip: convert::optional_vip(request.vip, convert::VIP)?,
        reals: reals
            .map(|real| convert::real_id(real, "reals"))
            .collect::<Result<_, _>>()?,
        reasons: reasons.map(|name| reason(name)).collect::<Result<_, _>>()?,
    })
}

fn reason(name: &str) -> Result<Reason, Refusal> {
    let mut known = Reason::ALL.iter().copied();
    known.find(|reason| reason.name() == name).ok_or_else(|| {
        let known: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        Refusal::invalid(
            "reasons",
            name,
            format!("there is no such reason; give one of {}", known.join(", ")),
        )
    })
}

fn limits(request: &v1::CaptureRequest) -> Result<Limits, Refusal> {
    let rate = match request.packets_per_second {
        0 => DEFAULT_RATE,
        rate @ MIN_RATE..=MAX_RATE => rate,
        rate => {
            return Err(Refusal::invalid(
                "packets_per_second",
                rate,
                format!("give {MIN_RATE} to {MAX_RATE}"),
            ));
        }
    };
    let duration = match request.duration {
        None => MAX_DURATION,
        Some(duration) => Duration::try_from(duration)
            .ok()
            .filter(|duration| !duration.is_zero() && *duration <= MAX_DURATION)
            .ok_or_else(|| {
                Refusal::invalid(
                    "duration",
                    "out of range",
                    "give more than 0 and at most 1 h",
                )
            })?,
    };
    let intervals = Duration::from_secs(1).as_millis() / INTERVAL.as_millis();
    Ok(Limits {
        count: match request.count {
            0 => u64::MAX,
            count => count,
        },
        duration,
        budget: u64::from(rate).div_ceil(intervals as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_limits() {
        let request = |rate, duration| v1::CaptureRequest {
            packets_per_second: rate,
            duration,
            ..v1::CaptureRequest::default()
        };
        let none = limits(&request(0, None)).unwrap();
        assert_eq!((none.count, none.budget), (u64::MAX, 100));
        assert_eq!(none.duration, MAX_DURATION);
        assert_eq!(limits(&request(50, None)).unwrap().budget, 1);
        assert!(limits(&request(49, None)).is_err());
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        assert!(limits(&request(MAX_RATE + 1, None)).is_err());
        assert!(limits(&request(0, seconds(0))).is_err());
        assert!(limits(&request(0, seconds(-1))).is_err());
        assert!(limits(&request(0, seconds(3_601))).is_err());
        assert!(limits(&request(0, seconds(3_600))).is_ok());
    }

    #[test]
    fn a_wrong_filter_is_refused_with_what_to_give() {
        let of = |reals: &[&str], reasons: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            filter(v1::CaptureRequest {
                reals: texts(reals),
                reasons: texts(reasons),
                ..v1::CaptureRequest::default()
            })
        };
        let right = of(&["10.0.0.2"], &["no_real", "forwarded_tx"]).unwrap();
        assert_eq!(right.reasons, [Reason::NoReal, Reason::ForwardedTx]);
        let error = of(&[], &["dropped"]).unwrap_err().to_string();
        assert!(
            error.contains("no_next_hop") && error.contains("dropped"),
            "{error}"
        );
        assert!(of(&["10.0.0"], &[]).is_err());
    }
}
