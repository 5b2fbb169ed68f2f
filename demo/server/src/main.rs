//! The server of which `lb-demo --demo web` runs a pool. Each request costs what its options say.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/_health` | 200 |
//! | `GET /api/v1/_load` | `{"cpu": 0.42, "memory": 0.2}`: what it uses of its limits |
//! | `POST /api/v1/_crash` | 200; from then on everything is answered with 500 |
//! | any other | 200 and its name, after the work |

use std::{
    cell::Cell,
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Parser;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::HeaderValue,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::{JoinSet, LocalSet},
    time::sleep,
};

/// How long requests under way may take after SIGTERM.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Pause after a failure to accept a connection, for example because no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);
/// Time over which the use of the processor is measured.
const MEASURING: Duration = Duration::from_millis(500);
/// Size of a page of memory: writing a byte of each makes the kernel provide it.
const PAGE: usize = 4_096;

/// A web server whose requests cost processor time, memory and time.
#[derive(Debug, Parser)]
#[command(name = "lb-demo-server", version)]
struct Arguments {
    /// Where it listens.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Its name, which is in each answer.
    #[arg(
        long,
        env = "LB_INSTANCE",
        value_name = "NAME",
        default_value = "server"
    )]
    name: HeaderValue,
    /// Processor time that a request takes, in microseconds.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0)]
    cpu: u64,
    /// Memory that a request takes while it is worked on, in KiB.
    #[arg(long, value_name = "KIBIBYTES", default_value_t = 0)]
    memory: usize,
    /// Time that a request waits besides, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    time: u64,
    /// Its limit of processor time, in cores: load is reported as a part of it.
    #[arg(long, value_name = "CORES", default_value_t = 1.0)]
    cores: f64,
    /// Its limit of memory, in MiB.
    #[arg(long, value_name = "MEBIBYTES", default_value_t = 1_024)]
    most_memory: u64,
}

struct Server {
    arguments: Arguments,
    is_crashed: Cell<bool>,
    /// Part of the processor's limit that is used, 0 to 1.
    used: Cell<f64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let served = runtime
        .context("starting the runtime")
        .and_then(|runtime| LocalSet::new().block_on(&runtime, serve(arguments)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb-demo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    // The first process of a container has to ask for the signal: it ends by none that it has no handler for.
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listening on {}", arguments.listen))?;
    println!("lb-demo-server: ready on {}", arguments.listen);
    let server = Rc::new(Server {
        arguments,
        is_crashed: Cell::new(false),
        used: Cell::new(0.0),
    });
    tokio::task::spawn_local(measure(Rc::clone(&server)));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let server = Rc::clone(&server);
                    connections.spawn_local(server.converse(stream, stopping.clone()));
                }
                Err(_) => sleep(PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    drop(stop);
    // What is still under way after that ends with the process.
    let _ = tokio::time::timeout(SHUTDOWN, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}

impl Server {
    /// Answers the requests of a connection until it ends, or the server does.
    async fn converse(self: Rc<Self>, stream: TcpStream, mut stopping: watch::Receiver<()>) {
        // It is a hint; answers are correct without it.
        let _ = stream.set_nodelay(true);
        let answer = service_fn(move |request| {
            let server = Rc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(&request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = pin!(connection);
        // A client that breaks a connection off needs no answer.
        tokio::select! {
            ended = &mut connection => return drop(ended),
            _ = stopping.changed() => {}
        }
        connection.as_mut().graceful_shutdown();
        drop(connection.await);
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_crash = request.method() == Method::POST && request.uri().path() == "/api/v1/_crash";
        let mut response = if self.is_crashed.get() {
            let mut response = Response::new(Full::from("crashed\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        } else if is_crash {
            self.is_crashed.set(true);
            Response::new(Full::from("everything is answered with 500 from now on\n"))
        } else {
            match request.uri().path() {
                "/api/v1/_health" => Response::new(Full::from("ok\n")),
                "/api/v1/_load" => Response::new(Full::from(self.load())),
                _ => {
                    self.work().await;
                    Response::new(Full::from(Bytes::copy_from_slice(
                        self.arguments.name.as_bytes(),
                    )))
                }
            }
        };
        let name = self.arguments.name.clone();
        response.headers_mut().insert("x-real", name);
        response
    }

    /// Does what a request costs.
    async fn work(&self) {
        let mut memory = vec![0_u8; self.arguments.memory * 1_024];
        for page in memory.chunks_mut(PAGE) {
            page[0] = 1;
        }
        let goal = processor_time() + Duration::from_micros(self.arguments.cpu);
        while processor_time() < goal {
            std::hint::spin_loop();
        }
        if self.arguments.time > 0 {
            sleep(Duration::from_millis(self.arguments.time)).await;
        }
        std::hint::black_box(&memory);
    }

    fn load(&self) -> String {
        let cpu = self.used.get();
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        let most = (self.arguments.most_memory << 20) as f64;
        let memory = resident.map_or(0.0, |pages: u64| (pages * PAGE as u64) as f64 / most);
        format!(
            "{{\"cpu\": {cpu:.4}, \"memory\": {:.4}}}\n",
            memory.min(1.0)
        )
    }
}

/// Measures the use of the processor, as long as the server runs.
async fn measure(server: Rc<Server>) {
    let mut last = (Instant::now(), processor_time());
    loop {
        sleep(MEASURING).await;
        let now = (Instant::now(), processor_time());
        let passed = (now.0 - last.0).as_secs_f64() * server.arguments.cores;
        let used = now.1.saturating_sub(last.1).as_secs_f64() / passed;
        server.used.set(used.min(1.0));
        last = now;
    }
}

/// Returns the processor time that this thread, which does all the work, has taken.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec, which the call fills. It knows this clock since Linux 2.6.12, so it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}
