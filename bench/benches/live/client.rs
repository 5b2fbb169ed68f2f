//! Clients that open a connection for each request when it is due, whatever became of earlier requests (an open loop).

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
use lb_bench::{arrivals::Arrival, figures::Outcome};
use lb_tests::Namespace;
use tokio::{
    net::TcpSocket,
    sync::Semaphore,
    task::{LocalSet, spawn_local},
    time::{Instant, sleep_until, timeout_at},
};

use crate::server::WORK;

/// Greatest number of requests under way; further ones fail. Four times the number that is under way if no server
/// answers at all.
const MOST_UNDER_WAY: usize = 10_000;

/// What the clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// The clients' addresses.
    pub clients: Vec<IpAddr>,
    /// When the requests are due, in order.
    pub arrivals: Vec<Arrival>,
    /// A request without an answer this long after it was due has failed.
    pub timeout: Duration,
}

/// Starts the clients in `namespace`. The thread returns the outcome of each request, in no particular order.
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

/// Makes one request and reads its answer to the last byte.
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
    // Dropping this future closes the connection, as a client that gives up does.
    tokio::pin!(talk, connection);
    tokio::select! {
        outcome = &mut talk => outcome,
        ended = &mut connection => {
            ended?;
            // The server has closed the connection after its answer.
            talk.await
        }
    }
}
