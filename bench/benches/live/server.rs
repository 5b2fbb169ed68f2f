//! A web server whose requests cost a fixed CPU time; each real runs one in a process of its own.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::time::{ClockId, clock_gettime};
use tokio::{
    net::TcpSocket,
    sync::Semaphore,
    task::{LocalSet, spawn_local},
};

/// What the server prints once it serves.
pub const READY: &str = "serving";
/// The path whose requests cost CPU time; others are answered at once.
pub const WORK: &str = "/work";

/// Greatest number of open connections; as many again wait in the kernel's queue, and further ones get no answer, as
/// from any server with a limit.
const MOST_OPEN: usize = 128;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the process is killed. One thread does everything, like one worker of a web server.
pub fn run(listen: SocketAddr, cost: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, serve(listen, cost))
}

async fn serve(listen: SocketAddr, cost: Duration) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket
        .bind(listen)
        .with_context(|| format!("listening on {listen}"))?;
    let listener = socket.listen(u32::try_from(MOST_OPEN)?)?;
    let room = Arc::new(Semaphore::new(MOST_OPEN));
    println!("{READY} on {listen}");
    let worker = Rc::new(Worker::new(cost)?);
    loop {
        let open = Arc::clone(&room).acquire_owned().await?;
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let worker = Rc::clone(&worker);
        spawn_local(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = worker.answer(request.uri().path());
                async move { answer }
            });
            // A client that disconnects needs no answer.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            drop(open);
        });
    }
}

/// Spends the CPU time of requests.
struct Worker {
    cost: Duration,
    /// The thread's CPU time once the cost of all requests so far is spent.
    due: Cell<Duration>,
}

impl Worker {
    fn new(cost: Duration) -> anyhow::Result<Self> {
        Ok(Worker {
            cost,
            due: Cell::new(thread_time()?),
        })
    }

    fn answer(&self, path: &str) -> anyhow::Result<Response<Full<Bytes>>> {
        if path == WORK {
            self.work()?;
        }
        Ok(Response::new(Full::from("done\n")))
    }

    /// Spends CPU time until the thread has used the cost of all requests so far, which includes accepting, parsing
    /// and answering.
    fn work(&self) -> anyhow::Result<()> {
        let due = self.due.get() + self.cost;
        self.due.set(due);
        while thread_time()? < due {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

fn thread_time() -> anyhow::Result<Duration> {
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("reading the thread's CPU time")?;
    Ok(time.into())
}
