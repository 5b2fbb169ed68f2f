//! The streams of pools for the nodes of load balancers: each node has a socket in its folder, at which it reads the pool that
//! is behind it, and nothing else. A node need not reach the controller over the network, and no tenant sees another's pools.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use lb_model::pool::PoolName;
use lb_serve::{Peer, UnixSocket, incoming, stopped};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use super::{Body, Site, guard::Origin, routes, serve_connection, stream};
use crate::{
    access::{Caller, Grant, Role, Who},
    registry::node::stream_path,
};

/// The mode of the sockets: nodes run as root.
const MODE: u32 = 0o600;
/// Streams of a node at once: it needs one, and another when it connects again before the end of the first is noticed.
const STREAMS: usize = 8;
/// How often it is looked whether all sockets are there.
const LOOK: Duration = Duration::from_secs(1);
/// The key of the warning that some are not.
const WARNING: &str = "streams of nodes";

/// A socket that is served until this is dropped.
struct Served {
    pool: PoolName,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves the sockets of nodes until the controller ends.
pub async fn serve_nodes(site: Site) {
    let mut wanted = site.projects.streams();
    let mut stopping = site.stopping.clone();
    let mut served: BTreeMap<PathBuf, Served> = BTreeMap::new();
    loop {
        let now: BTreeMap<PathBuf, PoolName> =
            wanted.borrow_and_update().values().cloned().collect();
        served.retain(|path, one| now.get(path) == Some(&one.pool) && !one.task.is_finished());
        let mut trouble = None;
        for (path, pool) in now {
            if served.contains_key(&path) {
                continue;
            }
            match serve(&site, &path, &pool) {
                Ok(one) => drop(served.insert(path, one)),
                Err(text) => trouble = Some(text),
            }
        }
        site.controller.set_warning(WARNING, trouble);
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK) => {}
            () = stopped(&mut stopping) => return,
        }
    }
}

fn serve(site: &Site, path: &Path, pool: &PoolName) -> Result<Served, String> {
    let socket = UnixSocket::bind(path, MODE)
        .map_err(|error| format!("a node cannot read the pool {pool}: {error}"))?;
    let site = Site {
        streams: Arc::new(Semaphore::new(STREAMS)),
        ..site.clone()
    };
    let serving = accept(site, socket, pool.clone());
    Ok(Served {
        pool: pool.clone(),
        task: tokio::spawn(serving),
    })
}

async fn accept(site: Site, socket: UnixSocket, pool: PoolName) {
    let mut connections = JoinSet::new();
    let mut incoming = std::pin::pin!(incoming(socket));
    loop {
        tokio::select! {
            Some(Ok(stream)) = incoming.next(), if connections.len() < STREAMS => {
                let (site, pool) = (site.clone(), pool.clone());
                connections.spawn(serve_connection(site.stopping.clone(), stream, move |request| {
                    std::future::ready(answer(&site, &pool, request))
                }));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn answer(site: &Site, pool: &PoolName, mut request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET || request.uri().path() != stream_path(pool) {
        let text = format!("only {} is here", stream_path(pool));
        return routes::problem(StatusCode::NOT_FOUND, &text);
    }
    // Who can open the socket is the node: it reads this pool, and reports what it has counted.
    request.extensions_mut().insert(Origin {
        caller: Caller {
            who: Who::Node(pool.to_string()),
            grants: vec![Grant::everywhere(Role::Operate)],
        },
        peer: Peer::Unknown,
        request: String::new(),
    });
    match stream::upgrade(site, pool.clone(), request) {
        Ok(response) | Err(response) => response,
    }
}
