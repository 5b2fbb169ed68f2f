//! HTTP/JSON and WebSockets of the controller.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use futures::{SinkExt as _, StreamExt as _};
use lb_tests::wait_for;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::fixture::{Controller, PATIENCE, port};

/// How often the stream is cut.
const CUTS: usize = 1_000;

struct Web {
    controller: Controller,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.body)?)
    }

    fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

impl Web {
    fn start(name: &str) -> anyhow::Result<Self> {
        let address: SocketAddr = format!("127.0.0.1:{}", port()).parse()?;
        let text = address.to_string();
        let options = ["--http", &text, "--http-origin", "https://ops.example"];
        Ok(Web {
            controller: Controller::start(name, &options)?,
            address,
        })
    }

    fn ask(&self, line: &str, headers: &[&str], body: &Value) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let headers: String = headers
            .iter()
            .map(|header| format!("{header}\r\n"))
            .collect();
        write!(
            stream,
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
        Ok(Answer {
            status: head.split(' ').nth(1).context("no status")?.parse()?,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.ask(&format!("GET {path}"), &[], &Value::Null)
    }
}

pub fn pools_are_read_and_changed_over_http() -> anyhow::Result<()> {
    let web = Web::start("http")?;
    let first = port();
    let script = web.controller.folder().join("server.pl");
    let settings = json!({
        "driver": { "kind": "process" },
        "network": { "port": first },
        "template": { "program": "/usr/bin/perl", "arguments": [script, "{port}"] },
        "check": { "kind": "http", "interval": "1s", "fast_interval": "100ms" },
        "scaling": { "min": 2, "max": 4 },
    });
    let added = web.ask(
        "POST /v1/pools",
        &["X-Request-Id: mine-1"],
        &json!({ "name": "web", "settings": settings }),
    )?;
    ensure!(added.status == 201, "{}", added.body);
    assert_eq!(added.header("x-request-id").as_deref(), Some("mine-1"));
    web.controller.wait_serving("web", 2)?;
    let pool = web.get("/v1/pools/web")?;
    let tag = pool.header("etag").context("no ETag")?;
    assert_eq!(pool.json()?["instances"][0]["state"], "LU");
    assert_eq!(pool.json()?["settings"]["scaling"]["max"], 4);
    let list = web.get("/v1/pools")?.json()?;
    assert_eq!(list["pools"][0]["name"], "web");
    ensure!(web.get("/v1/pools")?.header("x-request-id").is_some());
    // A change of what was read only.
    let patch = json!({ "scaling": { "max": 6 } });
    let changed = web.ask(
        "PATCH /v1/pools/web",
        &[&format!("If-Match: {tag}")],
        &patch,
    )?;
    ensure!(changed.status == 200, "{}", changed.body);
    let again = web.ask(
        "PATCH /v1/pools/web",
        &[&format!("If-Match: {tag}")],
        &patch,
    )?;
    assert_eq!(again.status, 412);
    let mut whole = web.get("/v1/pools/web/settings")?.json()?;
    assert_eq!(whole["scaling"]["max"], 6);
    whole["scaling"] = json!({ "min": 3, "max": 3 });
    let put = web.ask("PUT /v1/pools/web/settings", &[], &whole)?;
    ensure!(put.status == 200, "{}", put.body);
    web.controller.wait_serving("web", 3)?;
    let why = web.get("/v1/pools/web/why")?.json()?;
    assert_eq!(why["desired"], 3);
    let events = web.get("/v1/pools/web/events?since=0")?.json()?;
    assert_eq!(events["complete"], true);
    let mut kinds = events["events"].as_array().unwrap().iter();
    ensure!(kinds.any(|event| event["kind"] == "scaled"), "{events}");
    let name = web.get("/v1/pools/web/instances")?.json()?[0]["name"].clone();
    let logs = web.get(&format!("/v1/instances/{}/logs", name.as_str().unwrap()))?;
    assert_eq!(logs.body, format!("listening on {first}\n"));
    for (line, body, status) in [
        ("GET /v1/pools/none", Value::Null, 404),
        ("GET /", Value::Null, 404),
        ("POST /v1/pools/web", json!({}), 405),
        (
            "POST /v1/pools",
            json!({ "name": "web", "settings": settings }),
            409,
        ),
        (
            "PATCH /v1/pools/web",
            json!({ "scaling": { "max": 1 } }),
            422,
        ),
        ("PATCH /v1/pools/web", json!([1]), 400),
        ("GET /v1/pools/web/stream", Value::Null, 426),
        ("POST /v1/pools/web/demand", json!({ "requests": -1 }), 422),
        (
            "POST /v1/pools/web/demand",
            json!({ "requests": 5, "pending": {} }),
            204,
        ),
    ] {
        let answer = web.ask(line, &[], &body)?;
        assert_eq!(answer.status, status, "{line}: {}", answer.body);
        if status >= 400 {
            assert_eq!(
                answer.header("content-type").as_deref(),
                Some("application/problem+json")
            );
        }
    }
    // Browsers of the configured origin only.
    let allowed = web.ask(
        "OPTIONS /v1/pools",
        &["Origin: https://ops.example"],
        &Value::Null,
    )?;
    assert_eq!(
        allowed.header("access-control-allow-origin").as_deref(),
        Some("https://ops.example")
    );
    let other = ["Origin: https://evil.example"];
    let answer = web.ask("GET /v1/pools", &other, &Value::Null)?;
    ensure!(answer.header("access-control-allow-origin").is_none());
    assert_eq!(
        web.ask("DELETE /v1/pools/web", &other, &Value::Null)?
            .status,
        403
    );
    let metrics = web.get("/metrics")?.body;
    for line in [
        r#"lb_pool_instances{pool="web",state="FAILED"} 0"#,
        r#"lb_pool_desired_instances{pool="web"} 3"#,
        r#"lb_controller_events_total{pool="web",kind="launched"} 3"#,
    ] {
        ensure!(metrics.contains(line), "{line}: {metrics}");
    }
    assert_eq!(web.get("/healthz")?.body, "ok\n");
    let described = web.get("/v1/openapi.json")?.json()?;
    ensure!(described["paths"]["/v1/pools/{pool}"]["patch"].is_object());
    assert_eq!(
        web.ask("DELETE /v1/pools/web", &[], &Value::Null)?.status,
        202
    );
    wait_for("the pool's end", PATIENCE, || {
        Ok((web.get("/v1/pools/web")?.status == 404).then_some(()))
    })
}

/// Streams at once.
const MAX_STREAMS: usize = 128;

pub fn what_a_client_can_take_is_limited() -> anyhow::Result<()> {
    let web = Web::start("limits")?;
    web.controller
        .add_web("web", port(), &["scaling.min=1", "scaling.max=1"])?;
    web.controller.wait_serving("web", 1)?;
    // A body that does not come.
    let mut slow = TcpStream::connect(web.address)?;
    slow.set_read_timeout(Some(PATIENCE))?;
    write!(
        slow,
        "POST /v1/pools HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{"
    )?;
    let mut answer = String::new();
    slow.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    // A head, and a body, that are too large.
    let header = format!("x-long: {}", "x".repeat(20 << 10));
    let answer = web.ask("GET /v1/pools", &[&header], &Value::Null)?;
    assert_eq!(answer.status, 431, "{}", answer.head);
    let body = json!({ "name": "x".repeat(300 << 10) });
    assert_eq!(web.ask("POST /v1/pools", &[], &body)?.status, 413);
    // Streams.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let open = async || {
        let url = format!("ws://{}/v1/pools/web/stream", web.address);
        let stream = tokio::net::TcpStream::connect(web.address).await?;
        anyhow::Ok(tokio_tungstenite::client_async(url, stream).await?.0)
    };
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        streams.push(runtime.block_on(open())?);
    }
    let refused = runtime.block_on(open()).unwrap_err().to_string();
    ensure!(refused.contains("503"), "{refused}");
    assert_eq!(web.get("/healthz")?.body, "ok\n");
    streams.pop();
    wait_for("room for a stream", PATIENCE, || {
        Ok(runtime.block_on(open()).ok())
    })?;
    Ok(())
}

/// Instances by name.
type Instances = BTreeMap<String, Value>;

/// What a reader knows of a pool.
#[derive(Default)]
struct Reader {
    revision: Option<u64>,
    instances: Instances,
    /// What it knew at each revision.
    known: BTreeMap<u64, Instances>,
}

impl Reader {
    fn take(&mut self, text: &str) -> anyhow::Result<()> {
        let message: Value = serde_json::from_str(text)?;
        let list = message["instances"].as_array().cloned().unwrap_or_default();
        match message["type"].as_str() {
            Some("resync") => {
                self.revision = None;
                return Ok(());
            }
            Some("snapshot") => self.instances.clear(),
            Some("change") => {}
            other => anyhow::bail!("an unknown message: {other:?}"),
        }
        for one in list {
            self.instances
                .insert(one["name"].as_str().unwrap().to_owned(), one);
        }
        for name in message["removed"].as_array().into_iter().flatten() {
            self.instances.remove(name.as_str().unwrap());
        }
        self.revision = message["revision"].as_u64();
        let revision = self.revision.context("no revision")?;
        self.known.insert(revision, self.instances.clone());
        Ok(())
    }
}

pub fn a_stream_that_is_cut_misses_nothing() -> anyhow::Result<()> {
    let web = Web::start("stream")?;
    web.controller
        .add_web("web", port(), &["scaling.min=2", "scaling.max=2"])?;
    web.controller.wait_serving("web", 2)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut random = fastrand::Rng::with_seed(7);
    let mut reader = Reader::default();
    let url = format!("ws://{}/v1/pools/web/stream", web.address);
    let connect = async |reader: &Reader| {
        let url = match reader.revision {
            Some(revision) => format!("{url}?since={revision}"),
            None => url.clone(),
        };
        let stream = tokio::net::TcpStream::connect(web.address).await?;
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await?;
        anyhow::Ok(socket)
    };
    // One reader is never cut off: what it knows at a revision is what was so.
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let always = runtime.block_on(connect(&reader))?;
    let model = runtime.spawn(async move {
        let mut socket = always;
        let mut model = Reader::default();
        loop {
            tokio::select! {
                message = socket.next() => {
                    if let Message::Text(text) = message.context("the stream ended")?? {
                        model.take(&text)?;
                    }
                }
                _ = &mut stopped => return anyhow::Ok(model.known),
            }
        }
    });
    for cut in 0..CUTS {
        if cut % 50 == 0 {
            let size = random.u32(1..6).to_string();
            web.controller.pool(&["scale", "web", &size])?;
        }
        runtime.block_on(async {
            let mut socket = connect(&reader).await?;
            let cut_after = Duration::from_millis(random.u64(0..20));
            let read = tokio::time::timeout(cut_after, async {
                while let Some(message) = socket.next().await {
                    if let Message::Text(text) = message? {
                        reader.take(&text)?;
                    }
                }
                anyhow::Ok(())
            });
            match read.await {
                Ok(Err(error)) => Err(error),
                // Cut, or ended by the controller.
                _ => Ok(()),
            }
        })?;
    }
    // At each revision that both have seen, the one that was cut off knew what the other did.
    let _ = stop.send(());
    let model = runtime.block_on(model)??;
    let both = reader.known.iter();
    let both = both.filter_map(|(at, known)| Some((at, known, model.get(at)?)));
    let mut compared = 0;
    for (revision, known, expected) in both {
        assert_eq!(known, expected, "at revision {revision}");
        compared += 1;
    }
    println!("{compared} of {} states were compared", reader.known.len());
    ensure!(compared > 5, "{compared} states in common");
    web.controller.pool(&["scale", "web", "3"])?;
    let instances = web.controller.wait_serving("web", 3)?;
    // What the reader knows is what the controller lists.
    runtime.block_on(async {
        let mut socket = connect(&reader).await?;
        let same = tokio::time::timeout(PATIENCE, async {
            loop {
                let known: Vec<_> = reader
                    .instances
                    .values()
                    .map(|one| {
                        (
                            one["name"].clone(),
                            one["address"].clone(),
                            one["state"].clone(),
                        )
                    })
                    .collect();
                let listed: Vec<_> = instances
                    .iter()
                    .map(|one| {
                        (
                            one["name"].clone(),
                            one["endpoint"].clone(),
                            one["state"].clone(),
                        )
                    })
                    .collect();
                if known.len() == 3 && listed.iter().all(|one| known.contains(one)) {
                    return anyhow::Ok(());
                }
                if let Message::Text(text) = socket.next().await.context("the stream ended")?? {
                    reader.take(&text)?;
                }
            }
        });
        same.await
            .context("the reader does not know what is so")??;
        // It can narrow what it gets, and report.
        let send = |value: Value| Message::text(value.to_string());
        socket
            .send(send(json!({ "type": "ack", "revision": reader.revision })))
            .await?;
        socket
            .send(send(json!({ "type": "report", "requests": 12 })))
            .await?;
        socket
            .send(send(json!({ "type": "filter", "states": ["HU"] })))
            .await?;
        tokio::time::timeout(PATIENCE, async {
            while !reader.instances.is_empty() {
                if let Message::Text(text) = socket.next().await.context("the stream ended")?? {
                    reader.take(&text)?;
                }
            }
            anyhow::Ok(())
        })
        .await??;
        Ok(())
    })
}
