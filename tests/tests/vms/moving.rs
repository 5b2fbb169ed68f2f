//! Machines that move: to a file and back, to a copy of their own, and to another host while a client talks to them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use lb_drivers::Phase;
use lb_model::pool::{Boot, Launch, Vm};
use lb_tests::{Network, wait_for};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bed::{ADDRESSES, Hypervisor, PATIENCE, WEB, machine, vm, wait_page, with_leg};

/// Says each line that it hears to whoever has said it.
const ECHO: &str = "echo serving; exec nc -ll -p 7 -e cat";

pub fn a_machine_is_suspended_and_cloned() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let mut hypervisor = Hypervisor::new(&network, "suspend")?;
    let launch = machine("web-1-1", Some(ADDRESSES[0]), WEB);
    let name = launch.name.clone();
    hypervisor.start(&launch)?;
    wait_page(&client, ADDRESSES[0])?;
    // Something that is in its memory only.
    hypervisor.exec(&name, "echo kept >/run/memory")?;
    let begin = Instant::now();
    hypervisor.run(async { Ok(hypervisor.driver.suspend(&name).await?) })?;
    hypervisor.run(async { Ok(hypervisor.driver.suspend(&name).await?) })?;
    println!("suspended in {:?}", begin.elapsed());
    let listed = hypervisor.find(&name)?.unwrap();
    assert_eq!((listed.phase, listed.cgroup.as_str()), (Phase::Paused, ""));
    // The next run of the controller finds it, and lets it go on.
    hypervisor.open_again()?;
    assert_eq!(hypervisor.phase(&name)?, Phase::Paused);
    let begin = Instant::now();
    hypervisor.run(async { Ok(hypervisor.driver.resume(&name).await?) })?;
    wait_page(&client, ADDRESSES[0])?;
    println!("answers {:?} after it was resumed", begin.elapsed());
    assert_eq!(hypervisor.phase(&name)?, Phase::Running);
    let memory = hypervisor.exec(&name, "cat /run/memory")?;
    assert_eq!(memory.stdout, b"kept\n");
    // A copy has what the machine has, and a name and an address of its own; both run.
    let copy = machine("web-2-1", Some(ADDRESSES[1]), WEB);
    let begin = Instant::now();
    hypervisor.run(async {
        let driver = &hypervisor.driver;
        driver.clone_to(&name, &copy).await?;
        driver.clone_to(&name, &copy).await?;
        driver.start(&copy.name).await?;
        Ok(())
    })?;
    wait_page(&client, ADDRESSES[1])?;
    println!("a clone answers after {:?}", begin.elapsed());
    let memory = hypervisor.exec(&copy.name, "cat /run/memory; hostname")?;
    assert_eq!(memory.stdout, b"kept\nweb-2-1\n");
    wait_page(&client, ADDRESSES[0])?;
    assert_eq!(hypervisor.exec(&name, "hostname")?.stdout, b"web-1-1\n");
    // One that is stopped while it is suspended has ended, and boots when it starts.
    hypervisor.run(async {
        let driver = &hypervisor.driver;
        driver.suspend(&name).await?;
        driver.stop(&name, Duration::from_secs(60)).await?;
        Ok(())
    })?;
    ensure!(matches!(hypervisor.phase(&name)?, Phase::Ended { .. }));
    hypervisor.run(async { Ok(hypervisor.driver.start(&name).await?) })?;
    wait_page(&client, ADDRESSES[0])?;
    let memory = hypervisor.exec(&name, "cat /run/memory")?;
    assert_eq!(memory.stdout, b"");
    hypervisor.run(async {
        for name in [&name, &copy.name] {
            hypervisor.driver.remove(name).await?;
        }
        assert_eq!(hypervisor.driver.list().await?, []);
        Ok(())
    })
}

pub fn a_machine_moves_while_a_client_talks_to_it() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let from = Hypervisor::new(&network, "from")?;
    let to = Hypervisor::new(&network, "to")?;
    let launch = machine("web-1-1", Some(ADDRESSES[2]), ECHO);
    let name = &launch.name;
    from.start(&launch)?;
    from.wait_printed(name, "serving")?;
    let target = SocketAddr::new(ADDRESSES[2].parse()?, 7);
    let stream = wait_for("a connection", PATIENCE, || {
        let connected = client
            .namespace()
            .enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)))?;
        Ok(Some(connected?))
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut talk = Talk {
        reader: BufReader::new(stream),
        said: 0,
    };
    talk.say().context("before it moves")?;
    move_while_it_talks(&from, &to, &launch, &mut talk, || Ok(()))?;
    // And back. That its QEMU does not answer for longer than a command usually may take changes nothing.
    let pid = Pid::from_raw(to.pid(name)?);
    move_while_it_talks(&to, &from, &launch, &mut talk, || {
        let path = to.folder.path().join(format!("qemu/{name}/moves"));
        wait_for("the move's begin", PATIENCE, || {
            Ok(path.exists().then_some(()))
        })?;
        kill(pid, Signal::SIGSTOP)?;
        std::thread::sleep(Duration::from_secs(7));
        Ok(kill(pid, Signal::SIGCONT)?)
    })?;
    let to = from;
    let listed = to.find(name)?.unwrap();
    assert_eq!(listed.fault, None);
    assert_eq!(to.exec(name, "hostname")?.stdout, b"web-1-1\n");
    // One that cannot be sent runs on.
    let error = to.run(async { Ok(to.driver.send(name, "tcp:127.0.0.1:9").await.unwrap_err()) })?;
    println!("{error}");
    assert_eq!(to.phase(name)?, Phase::Running);
    talk.say().context("after it could not move")?;
    to.run(async { Ok(to.driver.remove(name).await?) })
}

/// Moves a machine while its client talks to it and something else happens, and removes what is left of it where it was.
fn move_while_it_talks(
    from: &Hypervisor,
    to: &Hypervisor,
    launch: &Launch,
    talk: &mut Talk,
    meanwhile: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = &launch.name;
    let begin = Instant::now();
    let address = to.run(async { Ok(to.driver.receive(launch).await?) })?;
    // Asking again is not a second one.
    assert_eq!(
        to.run(async { Ok(to.driver.receive(launch).await?) })?,
        address
    );
    let mut longest = Duration::ZERO;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let phase = from.run(async { Ok(from.driver.send(name, &address).await?) })?;
            assert_eq!(phase, Phase::Running);
            to.run(async { Ok(to.driver.received(name, phase).await?) })
        });
        let talking = scope.spawn(|| {
            while !sending.is_finished() {
                longest = longest.max(talk.say().context("while it moves")?);
            }
            sending.join().unwrap()
        });
        meanwhile()?;
        talking.join().unwrap()
    })
    .with_context(|| format!("{name} has printed: {}", to.console(name)))?;
    println!(
        "moved in {:?}; the client waited {longest:?} at most for one of {} lines",
        begin.elapsed(),
        talk.said
    );
    assert_eq!(to.phase(name)?, Phase::Running);
    ensure!(matches!(from.phase(name)?, Phase::Ended { .. }));
    from.run(async { Ok(from.driver.remove(name).await?) })?;
    for _ in 0..10 {
        talk.say().context("after it has moved")?;
    }
    Ok(())
}

/// A connection whose peer says what it hears.
struct Talk {
    reader: BufReader<TcpStream>,
    said: u32,
}

impl Talk {
    /// Says a line, and returns how long the answer took.
    fn say(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        self.said += 1;
        let line = format!("line {}\n", self.said);
        self.reader.get_mut().write_all(line.as_bytes())?;
        let mut heard = String::new();
        self.reader.read_line(&mut heard)?;
        ensure!(heard == line, "{heard:?}, not {line:?}");
        Ok(begin.elapsed())
    }
}

pub fn machines_start_from_a_saved_state() -> anyhow::Result<()> {
    let network = Network::new()?;
    let client = network.client()?;
    let hypervisor = Hypervisor::new(&network, "saved")?;
    let saved = |name: &str, address: &str| {
        let launch = Launch {
            vm: Some(Vm {
                boot: Boot::Saved,
                ..vm("initrd-bare")
            }),
            ..machine(name, Some(address), WEB)
        };
        with_leg(launch, &address.replace("10.10.60", "10.20.0"))
    };
    let first = saved("web-1-1", ADDRESSES[0]);
    hypervisor.start(&first)?;
    // It boots, since there is no state yet.
    assert_eq!(wait_page(&client, ADDRESSES[0])?.0, "web-1-1");
    let states = hypervisor.folder.path().join("qemu-states");
    wait_for("a state", PATIENCE, || {
        let entries = std::fs::read_dir(&states)?.collect::<Result<Vec<_>, _>>()?;
        let is_ready =
            |entry: &std::fs::DirEntry| !entry.file_name().to_string_lossy().starts_with("new-");
        Ok(entries.iter().any(is_ready).then_some(()))
    })?;
    for (number, address) in [(2, ADDRESSES[1]), (3, ADDRESSES[2])] {
        let launch = saved(&format!("web-{number}-1"), address);
        let begin = Instant::now();
        hypervisor.start(&launch)?;
        let started = begin.elapsed();
        assert_eq!(
            wait_page(&client, address)?.0,
            format!("web-{number}-1"),
            "its own name"
        );
        let leg = address.replace("10.10.60", "10.20.0");
        assert_eq!(
            wait_page(&hypervisor.host, &leg)?.0,
            format!("web-{number}-1")
        );
        println!(
            "from a saved state: started after {started:?}, answers after {:?}",
            begin.elapsed()
        );
        ensure!(
            !hypervisor
                .folder
                .path()
                .join(format!("qemu/web-{number}-1/origin"))
                .exists(),
            "it was told who it is"
        );
        // Its address is its own, and so is what it draws at random.
        let own = hypervisor.exec(&launch.name, "cat /sys/class/net/eth0/address")?;
        let other = hypervisor.exec(&first.name, "cat /sys/class/net/eth0/address")?;
        ensure!(own.stdout != other.stdout, "{own:?}");
    }
    assert_eq!(wait_page(&client, ADDRESSES[0])?.0, "web-1-1");
    // A state that cannot be read is as good as none: the kernel boots.
    for entry in std::fs::read_dir(&states)? {
        std::fs::write(entry?.path().join("state"), "no state")?;
    }
    let last = saved("web-4-1", ADDRESSES[3]);
    hypervisor.start(&last)?;
    assert_eq!(wait_page(&client, ADDRESSES[3])?.0, "web-4-1");
    hypervisor.run(async {
        for listed in hypervisor.driver.list().await? {
            hypervisor.driver.remove(&listed.name).await?;
        }
        Ok(())
    })
}
