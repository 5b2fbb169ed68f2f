//! Many clients, each request on a connection of its own, made when it is due whatever became of those before.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use lb_tests::Namespace;
use tokio::{
    net::TcpSocket,
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{arrivals::Arrival, figures::Outcome, server::WORK};

/// Requests under way at a time; what is due while there are more fails. Four times what is under way when
/// nobody answers at all.
const MOST_UNDER_WAY: usize = 10_000;

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// The clients' addresses.
    pub clients: Vec<IpAddr>,
    /// When they ask, in order.
    pub arrivals: Vec<Arrival>,
    /// A request without an answer after this time, counted from when it was due, has failed.
    pub timeout: Duration,
}

/// Starts them in `namespace`; what became of each request, in no order, when all are over.
pub fn start(
    namespace: &Namespace,
    plan: Plan,
    begin: std::time::Instant,
) -> JoinHandle<anyhow::Result<Vec<Outcome>>> {
    namespace.thread(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, run(plan, begin.into()))
    })
}

async fn run(plan: Plan, begin: Instant) -> anyhow::Result<Vec<Outcome>> {
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    let room = Rc::new(Semaphore::new(MOST_UNDER_WAY));
    let mut tasks = Vec::new();
    for arrival in plan.arrivals {
        let due = begin + arrival.at;
        sleep_until(due).await;
        let client = plan.clients[arrival.client];
        let (target, deadline) = (plan.target, due + plan.timeout);
        let (outcomes, room) = (Rc::clone(&outcomes), Rc::clone(&room));
        tasks.push(spawn_local(async move {
            let answered = match room.try_acquire() {
                Ok(_under_way) => timeout_at(deadline, ask(target, client))
                    .await
                    .is_ok_and(|outcome| outcome.is_ok()),
                Err(_) => false,
            };
            outcomes.borrow_mut().push(Outcome {
                at: arrival.at,
                took: answered.then(|| due.elapsed()),
            });
        }));
    }
    for task in tasks {
        task.await.context("a client's task failed")?;
    }
    Ok(outcomes.take())
}

/// One request, to the last byte of its answer.
async fn ask(target: SocketAddr, client: IpAddr) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((client, 0).into())?;
    let stream = socket.connect(target).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(WORK)
        .header("host", target.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    let talk = async {
        let response = sender.send_request(request).await?;
        ensure!(response.status() == StatusCode::OK, "{}", response.status());
        response.into_body().collect().await?;
        Ok(())
    };
    // The connection goes with this future: a client that gives up closes it.
    tokio::pin!(talk, connection);
    tokio::select! {
        outcome = &mut talk => outcome,
        ended = &mut connection => {
            ended?;
            // It has ended in order, and the answer is there.
            talk.await
        }
    }
}
