//! HTTP/1.1 clients with persistent connections, or with a new connection for each request.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::CONNECTION,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use super::{
    REQUEST_TIMEOUT,
    load::{Load, Record},
};
use crate::{
    Namespace,
    server::{SERVER_HEADER, big_file_block},
};

/// How long no answer may come from an address that is expected not to answer. SYNs are retransmitted after a second.
const SILENCE: Duration = Duration::from_millis(1_500);

/// How long a whole download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval at which the workers of a paused load look whether they may go on.
const PAUSED: Duration = Duration::from_millis(20);

/// How a load connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each worker keeps one connection as long as possible.
    Kept,
    /// Each request has a connection of its own.
    New,
    /// Each request has a connection of its own, from consecutive source ports beginning with this one: every run of
    /// the load has the same flows.
    NewFrom(SocketAddr),
}

/// What an HTTP load does.
#[derive(Clone, Debug)]
pub struct HttpPlan {
    /// Address and port of the service.
    pub target: SocketAddr,
    /// Number of requests under way at a time.
    pub workers: usize,
    /// How the workers connect.
    pub connections: Connections,
    /// Pause of a worker after each answer.
    pub pause: Duration,
    /// Greatest number of requests; `None` if the load runs until it is stopped.
    pub requests: Option<u64>,
}

/// What a load asks for, and what it expects.
#[derive(Clone, Copy, Debug)]
enum Pages {
    /// The root, whatever it holds.
    Root,
    /// See [`numbered_http_load`].
    Numbered,
}

/// Starts a load in `namespace`. A failure closes the connection on which it happened.
pub fn http_load(namespace: &Namespace, plan: HttpPlan) -> Load {
    start(namespace, plan, Pages::Root)
}

/// As [`http_load`], but each request asks for the path of its number, such as `/1042`, and an answer is correct only if its
/// body is the server's name, a space and that path. An answer that is cut, or that belongs to another request, is a failure.
pub fn numbered_http_load(namespace: &Namespace, plan: HttpPlan) -> Load {
    start(namespace, plan, Pages::Numbered)
}

fn start(namespace: &Namespace, plan: HttpPlan, pages: Pages) -> Load {
    Load::start(namespace, move |record| async move {
        let issued = Rc::new(Cell::new(0));
        let workers = (0..plan.workers)
            .map(|worker| ask_on(worker, &plan, pages, Rc::clone(&issued), &record));
        join_all(workers).await;
    })
}

async fn ask_on(
    worker: usize,
    plan: &HttpPlan,
    pages: Pages,
    issued: Rc<Cell<u64>>,
    record: &Arc<Record>,
) {
    let mut kept: Option<(SendRequest<Empty<Bytes>>, bool)> = None;
    while !record.stopped() {
        if record.paused() {
            // The server would close it while it is idle.
            kept = None;
            sleep(PAUSED).await;
            continue;
        }
        let number = issued.get();
        if plan.requests.is_some_and(|limit| number >= limit) {
            return;
        }
        issued.set(number + 1);
        let begin = Instant::now();
        let begun = record.begin();
        let outcome = timeout(REQUEST_TIMEOUT, async {
            let (mut connection, known) = match kept.take() {
                Some(connection) => connection,
                None => (
                    connect(plan.target, source(plan.connections, number)).await?,
                    false,
                ),
            };
            let path = match pages {
                Pages::Root => "/".to_owned(),
                Pages::Numbered => format!("/{number}"),
            };
            let keep = plan.connections == Connections::Kept;
            let answer = request(&mut connection, plan.target, &path, keep).await?;
            let server = answer.server;
            if matches!(pages, Pages::Numbered) {
                ensure!(
                    answer.body == format!("{server} {path}"),
                    "the answer to {path} is {:?}",
                    String::from_utf8_lossy(&answer.body)
                );
            }
            if !known {
                record.connected(Some(&server));
            }
            if keep && !answer.is_last {
                kept = Some((connection, true));
            }
            anyhow::Ok(())
        })
        .await
        .unwrap_or_else(|_| {
            Err(anyhow::anyhow!(
                "no answer from {} in {REQUEST_TIMEOUT:?}",
                plan.target
            ))
        });
        match outcome {
            Ok(()) => record.answered(worker, begin),
            Err(error) => record.failed(&error),
        }
        drop(begun);
        if !plan.pause.is_zero() {
            sleep(plan.pause).await;
        }
    }
}

fn source(connections: Connections, number: u64) -> Option<SocketAddr> {
    let Connections::NewFrom(mut from) = connections else {
        return None;
    };
    let port = u64::from(from.port()) + number;
    from.set_port(u16::try_from(port).unwrap_or(u16::MAX));
    Some(from)
}

async fn connect(
    target: SocketAddr,
    from: Option<SocketAddr>,
) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let stream = match from {
        None => TcpStream::connect(target).await,
        Some(from) => {
            let socket = if target.is_ipv4() {
                TcpSocket::new_v4()
            } else {
                TcpSocket::new_v6()
            }?;
            socket.set_reuseaddr(true)?;
            socket
                .bind(from)
                .with_context(|| format!("binding {from}"))?;
            socket.connect(target).await
        }
    };
    let stream = stream.with_context(|| format!("connecting to {target}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // An error of the connection shows at the request that it belongs to.
    tokio::task::spawn(async move { drop(connection.await) });
    Ok(sender)
}

fn ask(target: SocketAddr, path: &str, keep: bool) -> anyhow::Result<Request<Empty<Bytes>>> {
    let request = Request::get(path)
        .header("host", target.to_string())
        .header("connection", if keep { "keep-alive" } else { "close" })
        .body(Empty::new())?;
    Ok(request)
}

/// An answer that is right.
struct Answer {
    server: String,
    body: Bytes,
    /// The server closes the connection.
    is_last: bool,
}

async fn request(
    connection: &mut SendRequest<Empty<Bytes>>,
    target: SocketAddr,
    path: &str,
    keep: bool,
) -> anyhow::Result<Answer> {
    connection
        .ready()
        .await
        .with_context(|| format!("the connection to {target} was closed"))?;
    let response = connection
        .send_request(ask(target, path, keep)?)
        .await
        .with_context(|| format!("sending a request to {target}"))?;
    let server = checked(&response);
    let options = response.headers().get_all(CONNECTION);
    let is_last = options.iter().any(|option| option == "close");
    // Also the answer that reports a failure: closing a connection with unread data resets it.
    let body = response
        .into_body()
        .collect()
        .await
        .with_context(|| format!("reading the answer of {target}"))?;
    Ok(Answer {
        server: server?,
        body: body.to_bytes(),
        is_last,
    })
}

fn checked(response: &Response<Incoming>) -> anyhow::Result<String> {
    ensure!(
        response.status() == StatusCode::OK,
        "the answer is {}",
        response.status()
    );
    let server = response
        .headers()
        .get(SERVER_HEADER)
        .context("the answer has no header with the server's name")?;
    Ok(server.to_str()?.to_owned())
}

/// Makes one request on a new connection. Returns the name of the server that answered, and the answer.
///
/// # Errors
/// Fails if there is no correct answer in time.
pub fn get(
    namespace: &Namespace,
    target: SocketAddr,
    path: &str,
) -> anyhow::Result<(String, String)> {
    let answer = namespace.block_on(async {
        timeout(REQUEST_TIMEOUT, async {
            let mut connection = connect(target, None).await?;
            let response = connection.send_request(ask(target, path, false)?).await?;
            let server = checked(&response)?;
            let body = response.into_body().collect().await?.to_bytes();
            Ok((server, String::from_utf8(body.to_vec())?))
        })
        .await?
    });
    answer.with_context(|| format!("getting http://{target}{path} in {}", namespace.label()))
}

/// Makes one request on a new connection, and returns the body of the answer, whatever its status and whoever answers.
///
/// # Errors
/// Fails if there is no answer in time.
pub fn page(namespace: &Namespace, target: SocketAddr, path: &str) -> anyhow::Result<String> {
    let body = namespace.block_on(async {
        timeout(REQUEST_TIMEOUT, async {
            let mut connection = connect(target, None).await?;
            let response = connection.send_request(ask(target, path, false)?).await?;
            let body = response.into_body().collect().await?.to_bytes();
            Ok(String::from_utf8(body.to_vec())?)
        })
        .await?
    });
    body.with_context(|| format!("getting http://{target}{path} in {}", namespace.label()))
}

/// Makes a POST request without a body on a new connection, and returns the status of the answer.
///
/// # Errors
/// Fails if there is no answer in time.
pub fn post(namespace: &Namespace, target: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let status = namespace.block_on(async {
        timeout(REQUEST_TIMEOUT, async {
            let mut connection = connect(target, None).await?;
            let mut request = ask(target, path, false)?;
            *request.method_mut() = Method::POST;
            Ok(connection.send_request(request).await?.status().as_u16())
        })
        .await?
    });
    status.with_context(|| format!("posting to http://{target}{path} in {}", namespace.label()))
}

/// Checks that no connection to `target` is accepted.
///
/// # Errors
/// Fails if one is.
pub fn unanswered(namespace: &Namespace, target: SocketAddr) -> anyhow::Result<()> {
    namespace.block_on(async {
        match timeout(SILENCE, TcpStream::connect(target)).await {
            Ok(Ok(_)) => bail!("{target} accepts connections"),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    })
}

/// Downloads the large file of a [`crate::server::Nginx`], compares every byte with what it must be, and returns its
/// length.
///
/// # Errors
/// Fails if the file is incomplete or differs.
pub fn download(namespace: &Namespace, target: SocketAddr) -> anyhow::Result<u64> {
    let received = namespace.block_on(async {
        timeout(DOWNLOAD_TIMEOUT, async {
            let mut connection = connect(target, None).await?;
            let response = connection.send_request(ask(target, "/big", false)?).await?;
            checked(&response)?;
            compare(response.into_body()).await
        })
        .await?
    });
    received.with_context(|| format!("downloading http://{target}/big in {}", namespace.label()))
}

async fn compare(mut body: Incoming) -> anyhow::Result<u64> {
    let mut received = 0u64;
    let mut block = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.with_context(|| format!("after {received} bytes"))?;
        let Some(mut data) = frame.data_ref().map(|data| &data[..]) else {
            continue;
        };
        while !data.is_empty() {
            let at = (received % crate::server::BLOCK) as usize;
            if at == 0 {
                block = big_file_block(received / crate::server::BLOCK);
            }
            let length = data.len().min(block.len() - at);
            if data[..length] != block[at..at + length] {
                bail!("the content differs after {received} bytes");
            }
            data = &data[length..];
            received += length as u64;
        }
    }
    Ok(received)
}
