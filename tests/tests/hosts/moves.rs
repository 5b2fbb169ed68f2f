//! An operator clones an instance, and moves it to another host while it runs.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_tests::{client, guest, wait_for};

use crate::bed::{Bed, PATIENCE};

const ADDRESSES: [&str; 2] = ["10.10.60.11", "10.10.60.12"];

/// A page with a number that only this machine's memory has, and a server that says what it hears.
const PROGRAM: &str = "mkdir -p /www; cat /proc/sys/kernel/random/uuid >/www/index.html; \
                       nc -ll -p 7 -e cat & exec httpd -f -p 80 -h /www";

/// A connection whose peer says what it hears.
struct Talk(BufReader<TcpStream>);

impl Talk {
    fn open(bed: &Bed, address: &str) -> anyhow::Result<Self> {
        let target = SocketAddr::new(address.parse()?, 7);
        let stream = wait_for("a connection", PATIENCE, || {
            let connected = bed
                .clients
                .namespace()
                .enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)))?;
            Ok(Some(connected?))
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Talk(BufReader::new(stream)))
    }

    fn say(&mut self, line: &str) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        writeln!(self.0.get_mut(), "{line}")?;
        let mut heard = String::new();
        self.0.read_line(&mut heard)?;
        ensure!(heard.trim() == line, "{heard:?}, not {line:?}");
        Ok(begin.elapsed())
    }
}

fn page(bed: &Bed, address: &str) -> anyhow::Result<String> {
    let target = SocketAddr::new(address.parse()?, 80);
    let page = client::page(bed.clients.namespace(), target, "/")?;
    Ok(page.trim().to_owned())
}

/// Waits until the machines of the pool serve, as name and host.
fn wait_serving(bed: &Bed, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let waited = wait_for(&format!("{wanted:?}"), PATIENCE, || {
        let instances = bed.controller.instances("web")?;
        let serving = instances
            .iter()
            .filter(|one| matches!(one["state"].as_str(), Some("LU" | "MU" | "HU")));
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let found: Vec<(String, String)> = serving
            .filter(|one| one["phase"] == "running" && one["role"] == "serving")
            .map(|one| (text(&one["name"]), text(&one["host"])))
            .collect();
        let is_all = instances.len() == wanted.len()
            && found
                .iter()
                .map(|(name, host)| (&**name, &**host))
                .eq(wanted.iter().copied());
        ensure!(is_all, "{found:?}: {instances:?}");
        Ok(Some(()))
    });
    waited.with_context(|| bed.controller.output())
}

/// Waits until QEMU runs on the machines as often as that.
fn wait_machines(bed: &Bed, wanted: [usize; 2]) -> anyhow::Result<()> {
    wait_for(&format!("{wanted:?} machines"), PATIENCE, || {
        let mut found = [0; 2];
        for (at, found) in found.iter_mut().enumerate() {
            let taps = bed.machines[at].host.sh("ip -o link show type tun")?;
            *found = taps.lines().count();
        }
        ensure!(found == wanted, "{found:?}");
        Ok(Some(()))
    })
}

fn refused(bed: &Bed, line: &str, words: &str) -> anyhow::Result<()> {
    match bed.controller.ctl(line) {
        Ok(output) => anyhow::bail!("{line}: not refused: {output}"),
        Err(error) => {
            let text = error.to_string();
            println!("{line}: {text}");
            ensure!(text.contains(words), "{line}: {text}, without {words:?}");
            Ok(())
        }
    }
}

pub fn an_operator_clones_and_moves_a_machine() -> anyhow::Result<()> {
    let mut bed = Bed::new("moves", "")?;
    for _ in 0..2 {
        let at = bed.add_machine()?;
        let token = bed.token("")?;
        let address = bed.machines[at].host.v4.to_string();
        bed.start(at, &["--join", &token, "--receive-at", &address])?;
    }
    let file = bed.controller.folder().join("pool.toml");
    fs::write(
        &file,
        format!(
            r#"
driver = {{ kind = "qemu" }}
check = {{ kind = "http", path = "/", interval = "1s" }}
scaling = {{ min = 1, max = 2, in_after = "1h" }}
placement = {{}}
network = {{ port = 80, bridge = "br0", range = "{}-{}/16", delivery = "address" }}
[template]
program = "/bin/sh"
arguments = ["-c", "{PROGRAM}"]
start_deadline = "90s"
cpu = 0.5
memory = "320MiB"
[template.vm]
kernel = "{}"
initrd = "{}"
ram = "128MiB"
"#,
            ADDRESSES[0],
            ADDRESSES[1],
            guest("vmlinuz").display(),
            guest("initrd-bare").display(),
        ),
    )?;
    bed.controller
        .pool(&["add", "web", "-f", &file.display().to_string()])?;
    wait_serving(&bed, &[("web-1-1", "h1")])
        .or_else(|_| wait_serving(&bed, &[("web-1-1", "h2")]))?;
    let shown = bed.controller.instances("web")?;
    let on = bed.machine(shown[0]["host"].as_str().context("no host")?)?;
    let names = ["h1", "h2"];
    let (here, there) = (names[on], names[1 - on]);
    let number = page(&bed, ADDRESSES[0])?;

    refused(&bed, "instance move web-1-1 h9", "there is no host h9")?;
    refused(&bed, &format!("instance move web-1-1 {here}"), "already")?;
    refused(&bed, "instance move web-1-1 local", "placement")?;
    refused(
        &bed,
        &format!("instance move web-1-7 {there}"),
        "no such instance",
    )?;
    refused(&bed, "instance clone shop-1-1", "shop")?;
    bed.controller.ctl(&format!("host cordon {there}"))?;
    refused(
        &bed,
        &format!("instance move web-1-1 {there}"),
        "no host has room",
    )?;
    bed.controller.ctl(&format!("host uncordon {there}"))?;

    // A client talks to it while it moves.
    let mut talk = Talk::open(&bed, ADDRESSES[0])?;
    talk.say("before")?;
    let begin = Instant::now();
    bed.controller
        .ctl(&format!("instance move web-1-1 {there}"))?;
    let waited = talk.say("while it moves")?;
    wait_serving(&bed, &[("web-1-1", there)])?;
    println!(
        "moved after {:?}; a client waited {waited:?}",
        begin.elapsed()
    );
    talk.say("after")?;
    assert_eq!(page(&bed, ADDRESSES[0])?, number, "its memory is the same");
    let mut machines = [0, 0];
    machines[1 - on] = 1;
    wait_machines(&bed, machines)?;

    // The controller is killed right after it has accepted the order: the next run goes on.
    bed.controller
        .ctl(&format!("instance migrate web-1-1 {here}"))?;
    bed.controller.kill()?;
    talk.say("while nobody looks")?;
    bed.controller.run()?;
    wait_serving(&bed, &[("web-1-1", here)])?;
    machines.reverse();
    wait_machines(&bed, machines)?;
    talk.say("after it was killed")?;
    assert_eq!(page(&bed, ADDRESSES[0])?, number);

    let begin = Instant::now();
    let copy = bed.controller.ctl("instance clone web-1-1")?;
    assert_eq!(copy.trim(), "web-2-2");
    wait_serving(&bed, &[("web-1-1", here), ("web-2-2", here)])?;
    println!("a clone serves after {:?}", begin.elapsed());
    assert_eq!(
        page(&bed, ADDRESSES[1])?,
        number,
        "it has the memory of the first"
    );
    refused(&bed, "instance clone web-1-1", "scaling.max")?;
    machines[on] = 2;
    wait_machines(&bed, machines)?;
    bed.controller.pool(&["del", "web"])?;
    wait_machines(&bed, [0, 0])
}

pub fn what_a_driver_cannot_do_is_refused_with_its_name() -> anyhow::Result<()> {
    let mut bed = Bed::new("cannot", "")?;
    bed.join(2)?;
    bed.add_web(1, &["scaling.max=2"])?;
    let name = wait_for("an instance", PATIENCE, || {
        let instances = bed.controller.instances("web")?;
        let one = instances.first().context("none")?;
        ensure!(one["phase"] == "running", "{one}");
        Ok(one["name"].as_str().map(str::to_owned))
    })?;
    refused(&bed, &format!("instance clone {name}"), "process")?;
    let shown = bed.controller.instances("web")?;
    let other = if shown[0]["host"] == "h1" { "h2" } else { "h1" };
    refused(&bed, &format!("instance move {name} {other}"), "process")?;
    let after = bed.controller.instances("web")?;
    ensure!(
        after.len() == 1 && after[0]["name"] == name.as_str(),
        "{after:?}"
    );
    Ok(())
}
