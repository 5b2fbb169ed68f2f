//! A web server behind a backend's nginx, which answers as a test wants and reports a load that follows from that.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use super::{HTTP_PORT, Nginx, Server, StandardServer};
use crate::{Host, Namespace};

/// Interval at which the server checks whether it has to stop.
const POLL: Duration = Duration::from_millis(50);
/// The largest request that is read.
const LARGEST_REQUEST: usize = 16_384;
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(30);
/// Load is reported over at least this time, so that it has a meaning.
const WINDOW: Duration = Duration::from_millis(900);

/// How an [`Application`] answers `/`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// The status: 200, or an error.
    pub status: u16,
    /// How long it waits before it answers.
    pub delay: Duration,
    /// What a request costs: the fraction of a second for which it takes all of the CPU.
    pub cost: f64,
}

/// What the sensor makes of the load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sensor {
    /// It reports the load times this number.
    Times(f64),
    /// It reports what it reported last.
    Frozen,
}

/// A server on [`Application::PORT`]. `/` is answered as its [`Behaviour`] says; `/load` is
/// `{"utilisation": NUMBER, "requests": NUMBER}`, the load by the requests that were answered and what they cost.
#[derive(Debug)]
pub struct Application {
    state: Arc<State>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug)]
struct State {
    stop: AtomicBool,
    requests: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    behaviour: Behaviour,
    sensor: Sensor,
    /// CPU time in seconds that all requests so far have cost.
    spent: f64,
    /// When the load was last computed, and what was spent by then.
    last: (Instant, f64),
    utilisation: f64,
    reported: f64,
}

impl Application {
    /// Its port, on every address of its namespace.
    pub const PORT: u16 = 8_080;

    /// Starts the server in `namespace`.
    ///
    /// # Errors
    /// Fails if the port is in use.
    pub fn start(namespace: &Namespace, behaviour: Behaviour) -> anyhow::Result<Self> {
        let listener = namespace
            .enter(|| std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, Self::PORT)))?
            .with_context(|| format!("in {}: listening on {}", namespace.label(), Self::PORT))?;
        listener.set_nonblocking(true)?;
        let state = Arc::new(State {
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                behaviour,
                sensor: Sensor::Times(1.0),
                spent: 0.0,
                last: (Instant::now(), 0.0),
                utilisation: 0.0,
                reported: 0.0,
            }),
        });
        let shared = Arc::clone(&state);
        let thread = namespace.thread(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(serve(listener, shared))
        });
        Ok(Application {
            state,
            thread: Some(thread),
        })
    }

    /// Answers from now on like this.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.inner().behaviour = behaviour;
    }

    /// Reports from now on by this sensor.
    pub fn set_sensor(&self, sensor: Sensor) {
        self.state.inner().sensor = sensor;
    }

    /// Requests for `/` that were answered.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What the sensor says.
    fn measure(&mut self, now: Instant) -> f64 {
        let (then, spent) = self.last;
        let passed = now.saturating_duration_since(then);
        if passed >= WINDOW {
            self.utilisation = ((self.spent - spent) / passed.as_secs_f64()).min(1.0);
            self.last = (now, self.spent);
        }
        if let Sensor::Times(factor) = self.sensor {
            self.reported = self.utilisation * factor;
        }
        self.reported
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<State>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    while !state.stop.load(Ordering::Relaxed) {
        // A time-out is a look at the flag.
        if let Ok(accepted) = timeout(POLL, listener.accept()).await {
            let (stream, _) = accepted.context("accepting a connection")?;
            let state = Arc::clone(&state);
            // A client that breaks off its request needs no answer.
            tokio::spawn(async move { answer(stream, &state).await });
        }
    }
    Ok(())
}

/// Answers one request and closes the connection.
async fn answer(mut stream: TcpStream, state: &State) -> anyhow::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut request)).await??;
        anyhow::ensure!(read > 0 && request.len() < LARGEST_REQUEST, "no request");
    }
    let (status, body) = if request.starts_with(b"GET /load ") {
        let utilisation = state.inner().measure(Instant::now());
        let requests = state.requests.load(Ordering::Relaxed);
        let load = serde_json::json!({ "utilisation": utilisation, "requests": requests });
        (200, load.to_string())
    } else {
        let behaviour = state.inner().behaviour;
        sleep(behaviour.delay).await;
        state.inner().spent += behaviour.cost;
        state.requests.fetch_add(1, Ordering::Relaxed);
        (behaviour.status, "answer\n".to_owned())
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await?;
    Ok(())
}

impl Drop for Application {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A failure has shown as a missing answer.
            let _ = thread.join();
        }
    }
}

/// nginx, and the application to which it passes all requests.
#[derive(Debug)]
pub struct WebApplication {
    /// nginx.
    pub nginx: Nginx,
    /// What answers.
    pub application: Application,
}

impl StandardServer for WebApplication {
    fn start(host: &Host) -> anyhow::Result<Self> {
        let behaviour = Behaviour {
            status: 200,
            delay: Duration::ZERO,
            cost: 0.0,
        };
        let application = Application::start(host, behaviour)?;
        let target = (Ipv4Addr::LOCALHOST, Application::PORT).into();
        Ok(WebApplication {
            nginx: Nginx::start_in_front(host, HTTP_PORT, target)?,
            application,
        })
    }
}

impl Server for WebApplication {
    fn check(&mut self) -> anyhow::Result<()> {
        self.nginx.check()
    }

    fn ask_to_end(&mut self) {
        self.nginx.ask_to_end();
    }
}
