//! An agent for tests: it records requests and gives fixed answers.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt as _, stream};
use lb_proto::v1::{
    self,
    apply_request::Change,
    balancer_server::{Balancer, BalancerServer},
    watch_event,
};
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::fixtures::{self, real, stats, time, vip, vip_id};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A request that the agent received.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Change(Change),
    Applied(u64, Change),
    List(v1::ListVipsRequest),
    Stats(v1::GetStatsRequest),
    WatchStats(v1::WatchStatsRequest),
    Flows(v1::ListFlowsRequest),
    Status,
    Simulate(v1::SimulateRequest),
    Trace(v1::SimulateRequest),
    Capture(v1::CaptureRequest),
    Ring(v1::GetRingRequest),
    Watch(v1::WatchRequest),
    Explain(v1::ExplainRequest),
    Readings(v1::ListReadingsRequest),
    Reload(v1::ReloadRequest),
    Plan(v1::PlanRequest),
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Received>>>);

/// A running agent. It ends when it is dropped.
pub struct Agent {
    pub endpoint: String,
    recorder: Recorder,
    _runtime: Runtime,
    _dir: tempfile::TempDir,
}

impl Agent {
    pub fn start() -> Agent {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("api.sock");
        let runtime = Runtime::new().unwrap();
        let recorder = Recorder::default();
        let guard = runtime.enter();
        // The socket is bound here, so that clients can connect as soon as this function returns.
        let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let server = BalancerServer::new(recorder.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(listener),
        );
        drop(guard);
        let endpoint = format!("unix:{}", socket.display());
        Agent {
            endpoint,
            recorder,
            _runtime: runtime,
            _dir: dir,
        }
    }

    /// Returns the requests since the last call.
    pub fn received(&self) -> Vec<Received> {
        std::mem::take(&mut self.recorder.0.lock().unwrap())
    }
}

impl Recorder {
    fn note(&self, request: Received) {
        self.0.lock().unwrap().push(request);
    }

    /// Records a change, and rejects some of them.
    fn change(&self, change: Change) -> Result<(), Status> {
        self.note(Received::Change(change.clone()));
        judge(&change)
    }
}

/// Rejects changes by port: 404 has no VIP, 409 has one, 429 finds a full table. Rejects 224.0.0.1 and weights above the
/// range.
fn judge(change: &Change) -> Result<(), Status> {
    let (id, weight) = match change {
        Change::AddVip(r) => (&r.id, None),
        Change::UpdateVip(r) => (&r.id, None),
        Change::DeleteVip(r) => (&r.id, None),
        Change::AddReal(r) => (&r.vip, r.spec.as_ref().and_then(|spec| spec.weight)),
        Change::UpdateReal(r) => (&r.vip, r.spec.as_ref().and_then(|spec| spec.weight)),
        Change::DeleteReal(r) => (&r.vip, None),
    };
    let id = id.as_ref().unwrap();
    let name = format!("{}:{}/tcp", id.address, id.port);
    let resource = || ErrorDetails::with_resource_info("lb.v1.Vip", name.as_str(), "", "");
    let bad = |field: &str, text: &str| {
        let details = ErrorDetails::with_bad_request_violation(field, text);
        Err(Status::with_error_details(
            Code::InvalidArgument,
            text,
            details,
        ))
    };
    if id.address == "224.0.0.1" {
        return bad("id.address", "224.0.0.1 is not a unicast address");
    }
    if weight.is_some_and(|weight| weight > 65_535) {
        return bad("spec.weight", "a weight is 0 to 65535");
    }
    match id.port {
        404 => Err(Status::with_error_details(
            Code::NotFound,
            "there is no such VIP",
            resource(),
        )),
        409 => Err(Status::with_error_details(
            Code::AlreadyExists,
            "there is one",
            resource(),
        )),
        429 => Err(Status::with_error_details(
            Code::ResourceExhausted,
            "the table of services is full",
            ErrorDetails::with_quota_failure_violation("services", "4095 of 4095 in use"),
        )),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Balancer for Recorder {
    async fn add_vip(&self, request: Request<v1::AddVipRequest>) -> Answer<v1::Vip> {
        self.change(Change::AddVip(request.into_inner()))?;
        Ok(Response::new(v1::Vip {
            reals: vec![],
            ..vip()
        }))
    }

    async fn update_vip(&self, request: Request<v1::UpdateVipRequest>) -> Answer<v1::Vip> {
        self.change(Change::UpdateVip(request.into_inner()))?;
        Ok(Response::new(vip()))
    }

    async fn reload(&self, request: Request<v1::ReloadRequest>) -> Answer<v1::ChangePlan> {
        self.note(Received::Reload(request.into_inner()));
        Ok(Response::new(fixtures::plan()))
    }

    async fn plan(&self, request: Request<v1::PlanRequest>) -> Answer<v1::ChangePlan> {
        self.note(Received::Plan(request.into_inner()));
        Ok(Response::new(fixtures::plan()))
    }

    async fn delete_vip(
        &self,
        request: Request<v1::DeleteVipRequest>,
    ) -> Answer<v1::DeleteVipResponse> {
        self.change(Change::DeleteVip(request.into_inner()))?;
        Ok(Response::new(v1::DeleteVipResponse {}))
    }

    async fn list_vips(
        &self,
        request: Request<v1::ListVipsRequest>,
    ) -> Answer<v1::ListVipsResponse> {
        self.note(Received::List(request.into_inner()));
        Ok(Response::new(v1::ListVipsResponse { vips: vec![vip()] }))
    }

    async fn add_real(&self, request: Request<v1::AddRealRequest>) -> Answer<v1::Real> {
        self.change(Change::AddReal(request.into_inner()))?;
        Ok(Response::new(real()))
    }

    async fn update_real(&self, request: Request<v1::UpdateRealRequest>) -> Answer<v1::Real> {
        self.change(Change::UpdateReal(request.into_inner()))?;
        Ok(Response::new(real()))
    }

    async fn delete_real(
        &self,
        request: Request<v1::DeleteRealRequest>,
    ) -> Answer<v1::DeleteRealResponse> {
        self.change(Change::DeleteReal(request.into_inner()))?;
        Ok(Response::new(v1::DeleteRealResponse {}))
    }

    type ApplyStream = Answers<v1::ApplyResponse>;

    async fn apply(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Answer<Self::ApplyStream> {
        let recorder = self.clone();
        let answers = request.into_inner().map(move |request| {
            let request = request?;
            let change = request.change.unwrap();
            recorder.note(Received::Applied(request.sequence, change.clone()));
            // With port 503 the agent dies.
            if matches!(&change, Change::AddVip(r) if r.id.as_ref().unwrap().port == 503) {
                return Err(Status::unavailable("the agent ends"));
            }
            let (error, code) = match judge(&change) {
                Ok(()) => (String::new(), 0),
                Err(status) => (status.message().to_owned(), status.code().into()),
            };
            Ok(v1::ApplyResponse {
                sequence: request.sequence,
                error,
                code,
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_stats(&self, request: Request<v1::GetStatsRequest>) -> Answer<v1::Stats> {
        self.note(Received::Stats(request.into_inner()));
        Ok(Response::new(stats(100)))
    }

    type WatchStatsStream = Answers<v1::Stats>;

    async fn watch_stats(
        &self,
        request: Request<v1::WatchStatsRequest>,
    ) -> Answer<Self::WatchStatsStream> {
        self.note(Received::WatchStats(request.into_inner()));
        let readings = [stats(100), stats(102)].map(Ok);
        Ok(Response::new(Box::pin(stream::iter(readings))))
    }

    async fn list_flows(
        &self,
        request: Request<v1::ListFlowsRequest>,
    ) -> Answer<v1::ListFlowsResponse> {
        self.note(Received::Flows(request.into_inner()));
        let flows = v1::RealFlows {
            vip: Some(vip_id()),
            address: "10.1.0.2".to_owned(),
            flows: 12,
            exact: false,
            entries: 4,
            quiet_since: None,
            quiet_for: None,
        };
        Ok(Response::new(v1::ListFlowsResponse { reals: vec![flows] }))
    }

    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::Status> {
        self.note(Received::Status);
        Ok(Response::new(v1::Status {
            revision: 17,
            version: "0.1.0".to_owned(),
            started: time(100),
            interfaces: vec![v1::InterfaceStatus {
                name: "eth0".to_owned(),
                index: 2,
                xdp_mode: "generic".to_owned(),
                attached: true,
                warning: "the driver has no native XDP".to_owned(),
            }],
            vips: 1,
            reals: 2,
            unsettled_slots: 3,
            slots: 4_096,
            slot_states: Some(v1::SlotStates {
                settled: 4_093,
                in_window: 1,
                exceptions: 2,
            }),
            tables: vec![v1::TableUse {
                name: "flows".to_owned(),
                used: 10,
                capacity: 1_024,
                bytes: 16_384,
            }],
            kernel_memory: 5_242_880,
            layout: 1,
            generation: 4,
            adopted: true,
            warnings: vec!["a table is nearly full".to_owned()],
            limits: vec![v1::LimitUse {
                name: "calls".to_owned(),
                used: 3,
                limit: 1_024,
                refused: 5,
            }],
        }))
    }

    async fn trace(&self, request: Request<v1::SimulateRequest>) -> Answer<v1::PacketTrace> {
        let request = request.into_inner();
        self.note(Received::Trace(request.clone()));
        let vip = Some(v1::VipId {
            address: "10.0.0.1".to_owned(),
            port: 80,
            protocol: v1::Protocol::Tcp.into(),
            ..v1::VipId::default()
        });
        // A SYN goes by the ring; what follows is known to the flow table.
        let is_syn = request.packet.get(47) == Some(&0x02);
        Ok(Response::new(v1::PacketTrace {
            simulation: Some(v1::Simulation {
                verdict: "tx".to_owned(),
                reason: "forwarded_tx".to_owned(),
                vip,
                real: if is_syn { "10.1.0.2" } else { "10.1.0.3" }.to_owned(),
                chosen_by: if is_syn { "new_flow" } else { "previous" }.to_owned(),
                packet: request.packet,
            }),
            slot: Some(v1::SlotTrace {
                number: 7,
                slots: 256,
                real: "10.1.0.2".to_owned(),
                state: "in_window".to_owned(),
                previous: "10.1.0.3".to_owned(),
                ..v1::SlotTrace::default()
            }),
            ..v1::PacketTrace::default()
        }))
    }

    async fn diagnose(&self, _: Request<v1::DiagnoseRequest>) -> Answer<v1::Diagnosis> {
        let examination = |name: &str, findings| v1::Examination {
            name: name.to_owned(),
            examines: "something".to_owned(),
            findings,
        };
        Ok(Response::new(v1::Diagnosis {
            checks: vec![
                examination("clock", vec![]),
                examination(
                    "offloads",
                    vec![v1::Finding {
                        severity: "problem".to_owned(),
                        object: "eth0".to_owned(),
                        seen: "LRO is on".to_owned(),
                        mend: "ethtool -K eth0 lro off".to_owned(),
                    }],
                ),
            ],
        }))
    }

    type CaptureStream = Answers<v1::CaptureEvent>;

    async fn capture(&self, request: Request<v1::CaptureRequest>) -> Answer<Self::CaptureStream> {
        use v1::capture_event::Event;
        let request = request.into_inner();
        self.note(Received::Capture(request.clone()));
        if request.reasons.iter().any(|reason| reason == "unknown") {
            return Err(Status::invalid_argument(
                "reasons: `unknown`: there is no such reason; give one of no_real",
            ));
        }
        let events = [
            Event::Started(v1::CaptureStarted {
                interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
            }),
            Event::Packet(v1::CapturedPacket {
                interface: "eth1".to_owned(),
                verdict: "tx".to_owned(),
                reason: "forwarded_tx".to_owned(),
                real: "10.1.0.2".to_owned(),
                chosen_by: "ring".to_owned(),
                original: vec![1; 60],
                original_length: 60,
                changed: vec![2; 80],
                changed_length: 80,
                ..v1::CapturedPacket::default()
            }),
            Event::Losses(v1::CaptureLosses {
                lost: 3,
                over_budget: 4,
            }),
        ];
        let events = events.map(|event| Ok(v1::CaptureEvent { event: Some(event) }));
        Ok(Response::new(Box::pin(stream::iter(events))))
    }

    async fn simulate(&self, request: Request<v1::SimulateRequest>) -> Answer<v1::Simulation> {
        let request = request.into_inner();
        self.note(Received::Simulate(request.clone()));
        let passed = request.packet.ends_with(&[0xff]);
        if request.packet.len() < 14 {
            return Err(Status::with_error_details(
                Code::InvalidArgument,
                "too short",
                ErrorDetails::with_bad_request_violation("packet", "14 to 4000 bytes"),
            ));
        }
        Ok(Response::new(if passed {
            v1::Simulation {
                verdict: "pass".to_owned(),
                reason: "not_vip".to_owned(),
                chosen_by: "nothing".to_owned(),
                packet: request.packet,
                ..v1::Simulation::default()
            }
        } else {
            v1::Simulation {
                verdict: "tx".to_owned(),
                reason: "forwarded_tx".to_owned(),
                vip: Some(vip_id()),
                real: "10.1.0.2".to_owned(),
                chosen_by: "ring".to_owned(),
                packet: request.packet,
            }
        }))
    }

    async fn get_ring(&self, request: Request<v1::GetRingRequest>) -> Answer<v1::Ring> {
        self.note(Received::Ring(request.into_inner()));
        Ok(Response::new(v1::Ring {
            vip: Some(vip_id()),
            algorithm: v1::RingAlgorithm::Rendezvous.into(),
            slots: 65_536,
            checksum: "5eed".to_owned(),
            moved: 0.0015,
            reals: vec![v1::RingReal {
                address: "10.1.0.2".to_owned(),
                weight: 100,
                share: 0.015_625,
            }],
        }))
    }

    async fn explain(&self, request: Request<v1::ExplainRequest>) -> Answer<v1::ExplainResponse> {
        self.note(Received::Explain(request.into_inner()));
        Ok(Response::new(fixtures::explanation()))
    }

    async fn list_readings(
        &self,
        request: Request<v1::ListReadingsRequest>,
    ) -> Answer<v1::ListReadingsResponse> {
        self.note(Received::Readings(request.into_inner()));
        Ok(Response::new(fixtures::readings()))
    }

    type BackupStream = Answers<v1::BackupLines>;

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Answer<Self::BackupStream> {
        let lines = ["first\nVIP 1\n", "VIP 2\nlast\n"].map(|text| {
            Ok(v1::BackupLines {
                text: text.to_owned(),
            })
        });
        Ok(Response::new(Box::pin(stream::iter(lines))))
    }

    type WatchStream = Answers<v1::WatchEvent>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        use watch_event::Event;
        self.note(Received::Watch(request.into_inner()));
        let of_real = || v1::RealEvent {
            vip: Some(vip_id()),
            real: Some(real()),
        };
        let events = [
            Event::Snapshot(vip()),
            Event::SnapshotEnd(v1::SnapshotEnd { resumed: false }),
            Event::RealChanged(of_real()),
            Event::VipDeleted(vip_id()),
        ]
        .map(|event| {
            Ok(v1::WatchEvent {
                revision: 17,
                time: time(100),
                event: Some(event),
                cause: "api".to_owned(),
            })
        });
        Ok(Response::new(Box::pin(stream::iter(events))))
    }
}
