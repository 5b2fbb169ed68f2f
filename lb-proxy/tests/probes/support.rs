//! A proxy in this process, clients that write raw bytes, and instances that answer what a test says.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use lb_proxy::{config::Config, listen::handover::Sockets, members::Members, server::Server};

/// No test waits for longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy.
pub struct Proxy {
    pub server: Server,
    pub address: SocketAddr,
}

impl Proxy {
    /// Starts a proxy with one listener, at the address that stands first, and one thread.
    pub fn start(text: &str) -> Self {
        Self::start_with(text, 1)
    }

    pub fn start_with(text: &str, threads: usize) -> Self {
        let config = Config::parse(text, Path::new("test")).unwrap();
        let server = Server::start(config, threads, Sockets::new()).unwrap();
        let address = server.addresses()[0];
        Proxy { server, address }
    }

    /// One service with these instances. `service` are more of its settings, `listener` those of the listener.
    pub fn to(instances: &[SocketAddr], service: &str, listener: &str) -> Self {
        Self::start(&configuration(instances, service, listener))
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends a request on a connection of its own.
    pub fn ask(&self, request: &str) -> Answer {
        self.client().ask(request)
    }

    pub fn service(&self, name: &str) -> Arc<lb_proxy::service::Service> {
        Arc::clone(&self.server.shared().running.load().services[name])
    }
}

/// What looks after the instances of a proxy, as `lb-proxy run` does.
pub struct Control {
    runtime: tokio::runtime::Runtime,
    members: Members,
}

impl Control {
    pub fn over(proxy: &Proxy) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let control = Control {
            runtime,
            members: Members::default(),
        };
        control.follow(proxy);
        control
    }

    fn follow(&self, proxy: &Proxy) {
        let _inside = self.runtime.enter();
        self.members.follow(proxy.server.shared(), None);
    }

    /// The proxy gets another configuration.
    pub fn reload(&self, proxy: &Proxy, text: &str) {
        let config = Config::parse(text, Path::new("test")).unwrap();
        proxy.server.reload(config).unwrap();
        self.follow(proxy);
    }
}

pub fn configuration(instances: &[SocketAddr], service: &str, listener: &str) -> String {
    let mut text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n{listener}\n[[route]]\nservice = \"s\"\n[[service]]\nname = \"s\"\n{service}\n"
    );
    for address in instances {
        text.push_str(&format!("[[service.member]]\naddress = \"{address}\"\n"));
    }
    text
}

/// An answer as it came.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
    /// The connection ended before the answer did.
    pub is_cut: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The value of a header in a head.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// A client that writes raw bytes.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer(request.starts_with("HEAD"))
    }

    /// Reads an answer. A status of 0: the connection ended without one.
    pub fn answer(&mut self, is_head: bool) -> Answer {
        let mut answer = Answer::default();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) | Err(_) => return answer,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => answer.head.push_str(&line),
            }
        }
        answer.status = answer.head[9..12].parse().unwrap();
        let is_empty = is_head || answer.status < 200 || matches!(answer.status, 204 | 304);
        let read = match answer.header("content-length").map(str::to_owned) {
            _ if is_empty => Ok(()),
            _ if answer.header("transfer-encoding").is_some() => self.chunks(&mut answer),
            Some(length) => {
                answer.body = vec![0; length.parse().unwrap()];
                self.stream.read_exact(&mut answer.body)
            }
            None => self.stream.read_to_end(&mut answer.body).map(|_| ()),
        };
        answer.is_cut = read.is_err();
        answer
    }

    fn chunks(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16)
                .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            if size == 0 {
                break;
            }
            let mut part = vec![0; size + 2];
            self.stream.read_exact(&mut part)?;
            answer.body.extend_from_slice(&part[..size]);
        }
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            match line.as_str() {
                "\r\n" => return Ok(()),
                "" => return Err(io::ErrorKind::UnexpectedEof.into()),
                line => answer.trailers.push_str(line),
            }
        }
    }

    /// Waits until the proxy closes the connection. Returns how long that took.
    pub fn closed(&mut self) -> Duration {
        let start = Instant::now();
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the connection stays open")
            }
            _ => start.elapsed(),
        }
    }
}

/// A request that an instance received.
#[derive(Clone, Debug)]
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
    /// Number of the connection.
    pub connection: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// What an instance does with a request.
pub enum Reply {
    /// Writes bytes and goes on.
    Write(Vec<u8>),
    /// Writes bytes and closes.
    WriteAndClose(Vec<u8>),
}

/// Writes an answer with this head and body.
pub fn answer(status: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Write(
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
            .into_bytes(),
    )
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;
type Early = dyn Fn(&Received) -> Option<Reply> + Send + Sync;

/// An instance that answers what a test says.
pub struct Instance {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Instance {
    pub fn start(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_early(|_| None, handler)
    }

    /// As [`start`](Self::start); `early` may answer when only the head is there.
    pub fn start_early(
        early: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serving(TcpListener::bind("127.0.0.1:0").unwrap(), early, handler)
    }

    /// An instance at this address that answers 200 with a text.
    pub fn at(address: SocketAddr, text: &'static str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        Self::serving(listener, |_| None, move |_| answer("200 OK", "", text))
    }

    fn serving(
        listener: TcpListener,
        early: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static,
        handler: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let instance = Instance {
            address,
            received: Arc::default(),
            connections: Arc::default(),
            stopped: Arc::default(),
        };
        let (received, connections, stopped) = (
            Arc::clone(&instance.received),
            Arc::clone(&instance.connections),
            Arc::clone(&instance.stopped),
        );
        let handler: Arc<Handler> = Arc::new(handler);
        let early: Arc<Early> = Arc::new(early);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(SeqCst) {
                    return;
                }
                let number = connections.fetch_add(1, SeqCst);
                let (received, handler, early) = (
                    Arc::clone(&received),
                    Arc::clone(&handler),
                    Arc::clone(&early),
                );
                let Ok(stream) = stream else { return };
                thread::spawn(move || {
                    let _ = serve(stream, number, &received, &*early, &*handler);
                });
            }
        });
        instance
    }

    /// An instance that answers 200 with a text.
    pub fn fine() -> Self {
        Self::start(|_| answer("200 OK", "", "fine"))
    }

    pub fn received(&self) -> Vec<Received> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn count(&self) -> usize {
        self.received().len()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    connection: usize,
    received: &Mutex<Vec<Received>>,
    early: &Early,
    handler: &Handler,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = Received {
            head: String::new(),
            body: Vec::new(),
            trailers: String::new(),
            connection,
        };
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            request.head.push_str(&line);
        }
        if let Some(deed) = early(&request) {
            received
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(request);
            match deed {
                Reply::Write(bytes) | Reply::WriteAndClose(bytes) => {
                    reader.get_mut().write_all(&bytes)?;
                }
            }
            // What is left of the body is read, so that the answer is not lost in a reset.
            reader.get_mut().shutdown(Shutdown::Write)?;
            return reader.read_to_end(&mut Vec::new()).map(|_| ());
        }
        if let Some(length) = request.header("content-length") {
            request.body = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut request.body)?;
        } else if request.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let mut part = vec![0; size + 2];
                reader.read_exact(&mut part)?;
                request.body.extend_from_slice(&part[..size]);
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if line == "\r\n" || line.is_empty() {
                    break;
                }
                request.trailers.push_str(&line);
            }
        }
        received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        match handler(&request) {
            Reply::Write(bytes) => reader.get_mut().write_all(&bytes)?,
            Reply::WriteAndClose(bytes) => {
                reader.get_mut().write_all(&bytes)?;
                return reader.get_mut().shutdown(Shutdown::Both);
            }
        }
    }
}

/// Waits until something is true.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A GET of a path.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")
}

/// A GET with headers, each with its line end.
pub fn get_with(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n")
}
