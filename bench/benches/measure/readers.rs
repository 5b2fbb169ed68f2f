//! CPU time and memory of 1,000 readers of load, each with a request every 5 s.
//!
//! One thread runs all readers, and its CPU time counts; the peer has a thread of its own.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use lb_bench::process::resident;
use lb_clients::load::{
    reader::{self, Handle},
    reading::{Report, Subject},
};
use lb_model::load::LoadSource;
use lb_tests::Namespace;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
    time::timeout,
};

/// Cost of readers of one kind.
#[derive(Debug, Serialize)]
pub struct ReaderFigure {
    /// The kind of reader.
    pub kind: &'static str,
    /// Size of an answer, in bytes.
    pub answer: usize,
    /// Number of readers.
    pub readers: u16,
    /// Answers per second.
    pub rate: f64,
    /// CPU time, in percent of one core.
    pub percent: f64,
    /// Memory of the readers in KiB: growth of the resident set.
    pub kib: u64,
}

const READERS: u16 = 1_000;
/// Time in which each reader makes its first request.
const SETTLE: Duration = Duration::from_secs(7);
const WATCH: Duration = Duration::from_secs(20);
const PORT: u16 = 9100;
/// Series of a node_exporter page that the reader does not use.
const OTHER_SERIES: u32 = 800;
const PROCESSORS: u32 = 8;
const MODES: [&str; 8] = [
    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
];

/// Measures readers of small JSON documents and of a node_exporter page.
pub fn measure() -> anyhow::Result<Vec<ReaderFigure>> {
    let kinds = [
        (
            "http-json",
            json!({"path": "/load", "values": {"utilisation": "/cpu"}}),
            "{\"cpu\": 0.25, \"memory\": 0.5}".to_owned(),
        ),
        ("node-exporter", json!({}), exporter()),
    ];
    kinds
        .into_iter()
        .map(|(kind, mut settings, body)| {
            settings["kind"] = kind.into();
            settings["port"] = PORT.into();
            settings["address"] = "127.0.0.1".into();
            let source: LoadSource = serde_json::from_value(settings).context("making the source")?;
            let namespace = Namespace::new("bench-readers")?;
            let answer = body.len();
            let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {answer}\r\n\r\n{body}");
            // The thread ends with the process; it waits for connections in a namespace that nothing else uses.
            let _peer = namespace.thread(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?
                    .block_on(serve(response))
            });
            let figure = namespace.block_on(read(kind, answer, &source))?;
            println!(
                "\n{READERS} readers `{kind}`, {answer} bytes an answer: {:.0} answers per second used {:.1} % of a \
                 core and {} KiB",
                figure.rate, figure.percent, figure.kib
            );
            Ok(figure)
        })
        .collect()
}

fn exporter() -> String {
    let mut text = String::new();
    for cpu in 0..PROCESSORS {
        for mode in MODES {
            text += &format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} 12345.67\n");
        }
    }
    for series in 0..OTHER_SERIES {
        text += &format!("node_other_seconds_total{{device=\"disk{series}\"}} 12345.67\n");
    }
    text + "node_memory_MemAvailable_bytes 6e+09\nnode_memory_MemTotal_bytes 8e+09\n"
}

async fn serve(response: String) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let response = response.clone();
        tokio::spawn(async move {
            // A reader that disconnects needs no answer.
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(response.as_bytes()).await;
        });
    }
}

async fn read(
    kind: &'static str,
    answer: usize,
    source: &LoadSource,
) -> anyhow::Result<ReaderFigure> {
    let (sender, mut reports) = mpsc::channel(usize::from(READERS));
    let memory = resident(std::process::id())?;
    let readers: Vec<Handle> = (0..READERS)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let subject = Subject {
                vip: "192.0.2.1:80/tcp".parse().expect("this is a VIP"),
                real: IpAddr::V4(Ipv4Addr::new(10, 0, high, low)).into(),
            };
            reader::start(source, subject, sender.clone())
        })
        .collect();
    count(&mut reports, SETTLE).await?;
    let before = thread_time()?;
    let start = Instant::now();
    let answers = count(&mut reports, WATCH).await?;
    let seconds = start.elapsed().as_secs_f64();
    let percent = (thread_time()? - before).as_secs_f64() / seconds * 100.0;
    let kib = resident(std::process::id())?.saturating_sub(memory);
    drop(readers);
    Ok(ReaderFigure {
        kind,
        answer,
        readers: READERS,
        rate: answers as f64 / seconds,
        percent,
        kib,
    })
}

/// Counts answers. Fails if one of them is an error.
async fn count(reports: &mut mpsc::Receiver<Report>, time: Duration) -> anyhow::Result<u64> {
    let mut answers = 0;
    let all = async {
        while let Some(report) = reports.recv().await {
            if let Err(trouble) = report.outcome {
                bail!("{}: {trouble}", report.subject.real);
            }
            answers += 1;
        }
        Ok(())
    };
    match timeout(time, all).await {
        Ok(result) => result.map(|()| answers),
        Err(_) => Ok(answers),
    }
}

fn thread_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("reading the clock")?;
    Ok(time.into())
}
