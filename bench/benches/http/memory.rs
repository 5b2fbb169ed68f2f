//! What the proxies take of memory.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_bench::process;
use serde::Serialize;

use crate::{
    proxies::{BIG, CACHE, CACHED, Kind, PLAIN, Port, Proxies},
    scenario::SCENARIOS,
};

/// Connections that are idle after one request, if a program may have as many files.
const IDLE: usize = 10_000;
/// Objects of 1 KiB that are asked for, three times what the cache holds.
const OBJECTS: u64 = 3 * CACHE / 1_024;
/// Connections that fill the cache.
const FILLERS: u64 = 4;
/// How long memory is looked at while a body passes at most.
const BODY: Duration = Duration::from_secs(60);

/// The memory of one proxy.
#[derive(Debug, Serialize)]
pub struct MemoryFigure {
    pub kind: Kind,
    /// After the start.
    pub idle_mib: f64,
    /// Per connection that is idle after one request, its connection to a backend included.
    pub connection_kib: f64,
    /// With 1,000 connections at full load, at most.
    pub active_mib: f64,
    /// Over what it was before, at most, while a body of 1 GiB passes.
    pub body_mib: f64,
    /// Over what it was before, with a full cache of 64 MiB.
    pub cache_mib: f64,
}

/// Measures all proxies, each started for this.
pub fn measure(connections: usize) -> anyhow::Result<Vec<MemoryFigure>> {
    Kind::ALL
        .into_iter()
        .map(|kind| measure_one(kind, connections))
        .collect()
}

fn measure_one(kind: Kind, connections: usize) -> anyhow::Result<MemoryFigure> {
    let proxies = Proxies::start(connections)?;
    let target: SocketAddr = ([127, 0, 0, 1], proxies.port(kind, Port::Http)).into();
    let mib = || -> anyhow::Result<f64> { resident(&proxies, kind) };
    let idle_mib = mib()?;
    let idle = connections.min(IDLE);
    let connection_kib = {
        let _connections = proxies
            .namespace
            .enter(|| idle_connections(target, idle))??;
        (mib()? - idle_mib) * 1_024.0 / idle as f64
    };

    let proxies = Proxies::start(connections)?;
    let mib = || -> anyhow::Result<f64> { resident(&proxies, kind) };
    let before = mib()?;
    let mut body_mib = 0.0_f64;
    thread::scope(|scope| -> anyhow::Result<()> {
        let body = scope.spawn(|| proxies.namespace.enter(|| read_answer(target, BIG)));
        let begin = Instant::now();
        while !body.is_finished() && begin.elapsed() < BODY {
            body_mib = body_mib.max(mib()? - before);
            thread::sleep(Duration::from_millis(20));
        }
        let read = body
            .join()
            .map_err(|_| anyhow::anyhow!("the client panicked"))???;
        ensure!(read > 1 << 30, "{kind}: only {read} bytes of the body");
        Ok(())
    })?;

    let mut active_mib = 0.0_f64;
    let active = &SCENARIOS[1].load;
    thread::scope(|scope| -> anyhow::Result<()> {
        let load = scope.spawn(|| active.run(&proxies, kind, 3));
        while !load.is_finished() {
            active_mib = active_mib.max(mib()?);
            thread::sleep(Duration::from_millis(20));
        }
        load.join()
            .map_err(|_| anyhow::anyhow!("the client panicked"))??;
        Ok(())
    })?;

    let proxies = Proxies::start(connections)?;
    let before = resident(&proxies, kind)?;
    proxies.namespace.enter(|| fill(target))??;
    Ok(MemoryFigure {
        kind,
        idle_mib,
        connection_kib,
        active_mib,
        body_mib,
        cache_mib: resident(&proxies, kind)? - before,
    })
}

fn resident(proxies: &Proxies, kind: Kind) -> anyhow::Result<f64> {
    let pids = proxies.processes(kind)?;
    let sizes = pids.into_iter().map(process::resident);
    Ok(sizes.sum::<anyhow::Result<u64>>()? as f64 / 1_024.0)
}

fn idle_connections(target: SocketAddr, number: usize) -> anyhow::Result<Vec<TcpStream>> {
    (0..number)
        .map(|_| {
            let mut stream = TcpStream::connect(target)?;
            ask(&mut stream, PLAIN)?;
            Ok(stream)
        })
        .collect()
}

/// Fills the cache, over several connections.
fn fill(target: SocketAddr) -> anyhow::Result<()> {
    let part = |filler: u64| -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(target)?;
        for object in (filler..OBJECTS).step_by(FILLERS as usize) {
            ask(&mut stream, &format!("{CACHED}-{object}"))?;
        }
        Ok(())
    };
    // One after another: threads of this one's would be in another namespace.
    (0..FILLERS).try_for_each(part)
}

/// Sends a request and reads its answer, of 1 KiB.
fn ask(stream: &mut TcpStream, path: &str) -> anyhow::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the proxy closed the connection");
        answer.extend_from_slice(&buffer[..read]);
        let head = answer.windows(4).position(|part| part == b"\r\n\r\n");
        if let Some(head) = head
            && answer.len() >= head + 4 + 1_024
        {
            ensure!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer[..head])
            );
            return Ok(());
        }
    }
}

/// Asks for a file, and returns the bytes of the answer.
fn read_answer(target: SocketAddr, path: &str) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(target).context("connecting")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut buffer = vec![0; 1 << 16];
    let mut all = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(all),
            read => all += read as u64,
        }
    }
}
