//! An agent that is killed in the middle of changes: what was acknowledged is there when it runs again.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lb_dataplane::Dataplane as _;
use lb_model::vip::{Protocol, VipKey};
use lb_proto::v1::{self, apply_request::Change, balancer_client::BalancerClient};
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Channel;

use crate::bench::{Bench, frame};

const ROUNDS: usize = 5;
/// Changes of one round; the agent is killed before they are all acknowledged.
const CHANGES: usize = 2_000;
/// Changes without an acknowledgement.
const UNDER_WAY: usize = 64;
const VIPS: u32 = 40;

/// What is wanted: reals with their weights, per VIP.
type Wanted = BTreeMap<String, BTreeMap<String, u32>>;

/// A small random number.
fn random(rng: &mut TestRng, below: u32) -> u32 {
    use proptest::prelude::Rng as _;
    rng.next_u32() % below
}

fn address(vip: u32) -> String {
    format!("192.0.2.{}", 1 + vip)
}

fn id(address: &str) -> Option<v1::VipId> {
    Some(v1::VipId {
        address: address.to_owned(),
        port: 80,
        protocol: v1::Protocol::Tcp.into(),
        ..v1::VipId::default()
    })
}

/// A change that is valid for what is wanted, and makes it so.
fn next_change(rng: &mut TestRng, wanted: &mut Wanted) -> Change {
    let vip = address(random(rng, VIPS));
    let id = id(&vip);
    let Some(reals) = wanted.get_mut(&vip) else {
        wanted.insert(vip, BTreeMap::new());
        return Change::AddVip(v1::AddVipRequest {
            id,
            spec: None,
            ..Default::default()
        });
    };
    if random(rng, 20) == 0 {
        wanted.remove(&vip);
        return Change::DeleteVip(v1::DeleteVipRequest {
            id,
            ..Default::default()
        });
    }
    let address = format!("10.7.0.{}", 2 + random(rng, 8));
    let weight = random(rng, 4) * 50;
    let spec = Some(v1::RealSpec {
        weight: Some(weight),
        drained: None,
        ..v1::RealSpec::default()
    });
    if !reals.contains_key(&address) {
        reals.insert(address.clone(), weight);
        return Change::AddReal(v1::AddRealRequest {
            vip: id,
            address,
            spec,
            ..Default::default()
        });
    }
    if random(rng, 3) == 0 {
        reals.remove(&address);
        return Change::DeleteReal(v1::DeleteRealRequest {
            vip: id,
            address,
            ..Default::default()
        });
    }
    reals.insert(address.clone(), weight);
    Change::UpdateReal(v1::UpdateRealRequest {
        vip: id,
        address,
        spec,
        update_mask: None,
        ..Default::default()
    })
}

/// A running `lb-agent run`; killed in the end.
struct Agent {
    child: Child,
    client: BalancerClient<Channel>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts it in the balancer's namespace and waits for its API.
    async fn start(bench: &Bench, state: &std::path::Path) -> Agent {
        let socket = state.join("api.sock");
        let log = File::options()
            .create(true)
            .append(true)
            .open(state.join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb-agent"));
        command
            .args(["run", "--iface", "front", "back"])
            .arg("--state")
            .arg(state)
            .arg("--pins")
            .arg(&bench.pins)
            .arg(format!("--listen=unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = bench.balancer.enter(|| command.spawn()).unwrap().unwrap();
        let give_up = Instant::now() + Duration::from_secs(60);
        let channel = loop {
            let endpoint = format!("unix://{}", socket.display());
            let endpoint = tonic::transport::Endpoint::from_shared(endpoint).unwrap();
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(error) => assert!(Instant::now() < give_up, "{error}: {}", log_of(state)),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Agent {
            child,
            client: BalancerClient::new(channel),
        }
    }

    async fn list(&mut self) -> Wanted {
        let list = self.client.list_vips(v1::ListVipsRequest::default());
        let vips = list.await.unwrap().into_inner().vips;
        vips.into_iter()
            .map(|vip| {
                let reals = vip.reals.into_iter();
                (
                    vip.id.unwrap().address,
                    reals
                        .map(|real| (real.address, real.spec.unwrap().weight()))
                        .collect(),
                )
            })
            .collect()
    }

    /// Sends changes until the agent, killed after `kill_after` acknowledgements, answers no more. Returns
    /// what was wanted after each change, and how many were acknowledged.
    async fn change_until_killed(
        &mut self,
        rng: &mut TestRng,
        wanted: Wanted,
        kill_after: usize,
    ) -> (Vec<Wanted>, usize) {
        let mut states = vec![wanted];
        let mut changes = Vec::new();
        for sequence in 0..CHANGES {
            let mut next = states[sequence].clone();
            changes.push(v1::ApplyRequest {
                sequence: sequence as u64,
                change: Some(next_change(rng, &mut next)),
            });
            states.push(next);
        }
        // As many are under way as acknowledgements are owed, so that the kill meets the middle of a batch.
        let (sender, receiver) = tokio::sync::mpsc::channel(UNDER_WAY);
        let mut changes = changes.into_iter();
        for change in changes.by_ref().take(UNDER_WAY) {
            sender.try_send(change).unwrap();
        }
        let mut acknowledged = 0;
        let stream = self.client.apply(ReceiverStream::new(receiver)).await;
        let mut responses = stream.unwrap().into_inner();
        while let Some(Ok(response)) = responses.next().await {
            assert_eq!((response.code, response.error.as_str()), (0, ""));
            assert_eq!(response.sequence, acknowledged as u64);
            acknowledged += 1;
            if acknowledged == kill_after {
                // SIGKILL: it is not asked and cleans nothing up. Acknowledgements on their way still come.
                self.child.kill().unwrap();
            }
            if let Some(change) = changes.next() {
                // The agent may be gone.
                let _ = sender.send(change).await;
            }
        }
        (states, acknowledged)
    }

    /// The tables are what is wanted: a new flow goes to a real of its VIP that takes flows.
    async fn tables_are(&mut self, wanted: &Wanted) {
        for vip in (0..VIPS).map(address) {
            let takers: Option<Vec<&String>> = wanted.get(&vip).map(|reals| {
                let takers = reals.iter().filter(|(_, weight)| **weight > 0);
                takers.map(|(address, _)| address).collect()
            });
            for port in 1..30 {
                let packet = frame("198.51.100.7", 1_000 + port, &format!("{vip}:80/tcp"), true);
                let request = v1::SimulateRequest {
                    packet,
                    interface: String::new(),
                };
                let seen = self.client.simulate(request).await.unwrap().into_inner();
                match &takers {
                    None => assert_eq!(seen.reason, "not_vip", "{vip}: {seen:?}"),
                    Some(takers) if takers.is_empty() => {
                        assert_eq!((seen.vip.as_ref(), &*seen.real), (id(&vip).as_ref(), ""));
                    }
                    Some(takers) => {
                        assert_eq!(seen.vip, id(&vip));
                        assert!(takers.contains(&&seen.real), "{takers:?}: {seen:?}");
                    }
                }
            }
        }
    }
}

fn log_of(state: &std::path::Path) -> String {
    let mut text = String::new();
    let file = File::open(state.join("log"));
    file.unwrap().read_to_string(&mut text).unwrap();
    text
}

pub fn a_killed_agent_forgets_nothing_it_acknowledged() {
    let bench = Bench::new();
    let state = tempfile::tempdir().unwrap();
    let seed = std::process::id();
    eprintln!("random numbers from {seed}");
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_ne_bytes());
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let wanted = runtime.block_on(async {
        let mut wanted = Wanted::new();
        for round in 0..ROUNDS {
            let mut agent = Agent::start(&bench, state.path()).await;
            let status = agent.client.get_status(v1::GetStatusRequest {}).await;
            assert_eq!(status.unwrap().into_inner().adopted, round > 0);
            assert_eq!(agent.list().await, wanted, "before round {round}");
            let kill_after = 1 + random(&mut rng, CHANGES as u32 / 2) as usize;
            let (states, acknowledged) = agent
                .change_until_killed(&mut rng, wanted, kill_after)
                .await;
            assert!((kill_after..CHANGES).contains(&acknowledged));
            drop(agent);

            let mut agent = Agent::start(&bench, state.path()).await;
            let status = agent.client.get_status(v1::GetStatusRequest {}).await;
            assert!(status.unwrap().into_inner().adopted);
            wanted = agent.list().await;
            // Changes that were under way may have been made: in order, so there is a last one.
            let made = states[acknowledged..]
                .iter()
                .position(|state| *state == wanted);
            let made = made.unwrap_or_else(|| {
                panic!(
                    "round {round}, {acknowledged} acknowledged: {wanted:?} and not {:?}",
                    states[acknowledged]
                )
            });
            eprintln!("killed after {acknowledged} acknowledgements, {made} more were made");
            agent.tables_are(&wanted).await;
        }
        wanted
    });
    let log = log_of(state.path());
    assert!(
        log.contains("INFO") && !log.contains('\x1b'),
        "no terminal, no colours"
    );
    // The tables say the same to whoever reads them alone.
    let services = bench.start().services();
    let expected: Vec<VipKey> = wanted
        .keys()
        .map(|address| VipKey::new(address.parse().unwrap(), 80, Protocol::Tcp))
        .collect();
    let mut services: Vec<String> = services.iter().map(ToString::to_string).collect();
    let mut expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    services.sort();
    expected.sort();
    assert_eq!(services, expected);
}
