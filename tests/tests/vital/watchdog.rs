//! Parts of the agent that hang, and its configuration file.

use std::{
    fs, net::Shutdown, os::unix::net::UnixDatagram, path::Path, sync::mpsc, thread, time::Duration,
};

use lb_tests::{AgentOptions, freeze_threads, wait_for};
use nix::sys::signal::Signal;

use crate::fixture::{PATIENCE, VIP, Web, serving, wait_served, wait_warning};

/// Options of an agent with a configuration file of this text in a folder.
fn with_file(folder: &tempfile::TempDir, text: &str) -> AgentOptions {
    let file = folder.path().join("lb.toml");
    fs::write(&file, text).unwrap();
    AgentOptions {
        arguments: vec!["--config".to_owned(), file.display().to_string()],
        ..AgentOptions::default()
    }
}

pub fn an_agent_whose_owner_hangs_ends_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = with_file(&folder, "watchdog = \"5s\"\n");
    let mut testbed = serving(1, options);
    freeze_threads(testbed.agent.id().unwrap(), "owner").unwrap();
    wait_served(&testbed);
    let (status, output) = testbed.agent.wait_end(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{output}");
    for words in [
        "packets flow on; start it again",
        "the thread that owns the kernel's tables and the database hangs: it has made no progress for 5s",
    ] {
        assert!(output.contains(words), "{words}: {output}");
    }
    wait_served(&testbed);
    testbed.agent.run().unwrap();
    let status = testbed.agent.ctl_json("status").unwrap();
    assert_eq!(status["adopted"], true, "{status}");
    wait_served(&testbed);
}

/// A service manager: it hears what the agent says by sd_notify(3).
struct ServiceManager {
    socket: UnixDatagram,
    messages: mpsc::Receiver<String>,
}

impl ServiceManager {
    /// How often it wants a sign of life; systemd would kill the agent without one.
    const INTERVAL: Duration = Duration::from_secs(30);

    /// Has the agent of these options talk to it.
    fn of(options: &mut AgentOptions, folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let interval = Self::INTERVAL.as_micros().to_string();
        options.environment = vec![
            ("NOTIFY_SOCKET".to_owned(), path.display().to_string()),
            ("WATCHDOG_USEC".to_owned(), interval),
        ];
        let (sender, messages) = mpsc::channel();
        let ears = socket.try_clone().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // A socket that is shut down has messages without content.
            while let Ok(length @ 1..) = ears.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                if sender.send(text.into_owned()).is_err() {
                    return;
                }
            }
        });
        ServiceManager { socket, messages }
    }

    /// The next message, which must come within an interval.
    fn next(&self) -> String {
        self.messages.recv_timeout(Self::INTERVAL).unwrap()
    }

    /// The messages that have come.
    fn others(&self) -> String {
        self.messages.try_iter().collect()
    }
}

impl Drop for ServiceManager {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

const SIGN_OF_LIFE: &str = "WATCHDOG=1\n";

pub fn the_service_manager_gets_signs_of_life_until_the_runtime_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = with_file(&folder, "watchdog = \"5s\"\n");
    let manager = ServiceManager::of(&mut options, folder.path());
    let mut testbed = serving(1, options);
    let mut heard = Vec::new();
    while heard.iter().filter(|text| *text == SIGN_OF_LIFE).count() < 5 {
        heard.push(manager.next());
    }
    assert!(heard.contains(&"READY=1\n".to_owned()), "{heard:?}");

    freeze_threads(testbed.agent.id().unwrap(), "tokio-rt-worker").unwrap();
    let status = loop {
        let text = manager.next();
        if text != SIGN_OF_LIFE {
            break text;
        }
    };
    let reason = "the runtime, which runs all tasks, hangs: it has made no progress for 5s";
    assert_eq!(
        status,
        format!("STATUS={reason}; the agent ends, packets flow on\n")
    );
    wait_served(&testbed);
    let (exit, output) = testbed.agent.wait_end(PATIENCE).unwrap();
    assert_eq!(exit.code(), Some(1), "{output}");
    assert!(output.contains(reason), "{output}");
    assert_eq!(manager.others(), "", "no sign of life once it hangs");

    testbed.agent.run().unwrap();
    wait_served(&testbed);
    testbed.agent.signal(Signal::SIGHUP).unwrap();
    let mut heard = String::new();
    while !heard.contains("RELOADING=1\n") || !heard.ends_with("READY=1\n") {
        heard += &manager.next();
    }
    testbed.agent.stop().unwrap();
    assert!(manager.others().contains("STOPPING=1\n"));
}

pub fn an_agent_that_cannot_even_end_is_ended_by_its_watchdog() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = with_file(&folder, "watchdog = \"5s\"\n");
    let manager = ServiceManager::of(&mut options, folder.path());
    let mut testbed = serving(1, options);
    let id = testbed.agent.id().unwrap();
    // The thread that would end the agent hangs as well.
    freeze_threads(id, "lb-agent").unwrap();
    freeze_threads(id, "owner").unwrap();
    let (exit, output) = testbed.agent.wait_end(PATIENCE).unwrap();
    assert_eq!(exit.code(), Some(1), "{output}");
    let words = "hangs: it has made no progress for 5s; the process does not end in order either";
    assert!(output.contains(words), "{output}");
    let heard = manager.others();
    assert!(
        heard.contains("READY=1\n") && heard.ends_with(SIGN_OF_LIFE),
        "{heard}"
    );
    wait_served(&testbed);
    testbed.agent.run().unwrap();
    wait_served(&testbed);
}

/// The warning about the configuration file, if there is one.
fn file_warning(testbed: &Web) -> anyhow::Result<Option<String>> {
    let status = testbed.agent.ctl_json("status")?;
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    let mut texts = warnings.iter().filter_map(|warning| warning.as_str());
    let warning = texts.find(|text| text.contains("the configuration file is not followed"));
    Ok(warning.map(str::to_owned))
}

pub fn a_file_that_is_not_followed_is_a_warning_until_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let testbed = serving(1, with_file(&folder, ""));
    let agent = &testbed.agent;
    let file = folder.path().join("lb.toml");
    let host = &testbed.network.balancer;
    let metric = || agent.ctl_json("status").unwrap()["warnings"].clone();
    assert_eq!(metric(), serde_json::json!([]));
    let watch = agent.lbctl_command(["-o", "json", "watch"]).unwrap();
    let mut watch = lb_tests::Process::start("lbctl watch", watch).unwrap();
    wait_for("the snapshot", PATIENCE, || {
        Ok(watch.output().contains(VIP).then_some(()))
    })
    .unwrap();

    // A file that cannot be read, first by a signal, then by an operator.
    fs::write(&file, "[[vip]]\naddress = \"nowhere\"\n").unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    let warning = wait_warning(&testbed, "the configuration file is not followed");
    for words in ["lb.toml", "nowhere", "nothing was changed", "SIGHUP"] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    assert!(agent.ctl("reload").is_err());
    let warning = file_warning(&testbed).unwrap().unwrap();
    assert!(warning.contains("Reload by uid 0"), "{warning}");
    // A question about the file is no attempt to follow it.
    fs::write(&file, "").unwrap();
    agent.ctl("reload --dry-run").unwrap();
    assert!(file_warning(&testbed).unwrap().is_some());
    agent.signal(Signal::SIGHUP).unwrap();
    let gone = || Ok(file_warning(&testbed)?.is_none().then_some(()));
    wait_for("the warning's end", PATIENCE, gone).unwrap();

    // A file that is right, but asks for what cannot be: an address of this host as a real.
    let own = host.v4;
    let text =
        format!("[[vip]]\naddress = \"192.0.2.77:80/tcp\"\n[[vip.real]]\naddress = \"{own}\"\n");
    fs::write(&file, text).unwrap();
    agent.signal(Signal::SIGHUP).unwrap();
    let warning = wait_warning(&testbed, "is not followed in all");
    assert!(warning.contains(&own.to_string()), "{warning}");
    fs::write(&file, "").unwrap();
    agent.ctl("reload").unwrap();
    assert_eq!(file_warning(&testbed).unwrap(), None);

    // Watchers have heard of each.
    let heard = |words: &str| watch.output().matches(words).count();
    wait_for("the events", PATIENCE, || {
        let all = heard("the configuration file is followed again") == 2
            && heard("the configuration file is not followed") == 3;
        Ok(all.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", watch.output()));
    watch.kill().unwrap();
    wait_served(&testbed);
}

/// The warnings of the agent.
fn warnings(testbed: &Web) -> Vec<String> {
    let status = testbed.agent.ctl_json("status").unwrap();
    serde_json::from_value(status["warnings"].clone()).unwrap()
}

pub fn settings_that_count_later_and_objects_of_others_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    let mut testbed = serving(1, with_file(&folder, ""));
    let agent = &testbed.agent;
    let file = folder.path().join("lb.toml");
    let watch = agent.lbctl_command(["-o", "json", "watch"]).unwrap();
    let mut watch = lb_tests::Process::start("lbctl watch", watch).unwrap();
    wait_for("the snapshot", PATIENCE, || {
        Ok(watch.output().contains(VIP).then_some(()))
    })
    .unwrap();
    let reload_by_signal = |text: &str, warning: &str| {
        fs::write(&file, text).unwrap();
        agent.signal(Signal::SIGHUP).unwrap();
        wait_warning(&testbed, warning);
    };

    // Two settings of the agent; the command line of the testbed gives the second one.
    let settings = "watchdog = \"90s\"\nxdp_mode = \"generic\"\n";
    let later = "count when the agent starts again: watchdog (";
    reload_by_signal(settings, later);
    let plan = agent.ctl_json("reload").unwrap();
    assert_eq!(plan["at_next_start"], serde_json::json!(["watchdog"]));
    assert_eq!(plan["overridden"], serde_json::json!(["xdp_mode"]));
    let diff = agent
        .ctl(&format!("diff {}", file.display()))
        .unwrap_or_else(|error| format!("{error:#}"));
    assert!(
        diff.contains("! watchdog: when the agent starts again"),
        "{diff}"
    );

    // The VIP belongs to the API, and the file wants it otherwise.
    let object = format!("[[vip]]\naddress = \"{VIP}\"\nwindow = \"7m\"\n");
    let foreign = "not followed in all: it wants VIP 192.0.2.10:80/tcp (owner api) otherwise";
    reload_by_signal(&format!("{settings}{object}"), foreign);
    let plan = agent.ctl_json("reload").unwrap();
    assert_eq!(plan["left"][0]["owner"], "api", "{plan}");
    let both = warnings(&testbed);
    assert_eq!(both.len(), 2, "{both:?}");
    // Its owner makes it as the file wants it: the warning ends by itself.
    agent.ctl(&format!("set-vip {VIP} --window 7m")).unwrap();
    wait_for("the warning's end", PATIENCE, || {
        Ok((warnings(&testbed).len() == 1).then_some(()))
    })
    .unwrap();
    agent.ctl(&format!("set-vip {VIP} --window 8m")).unwrap();
    wait_warning(&testbed, foreign);
    agent.ctl("reload --force").unwrap();
    fs::write(&file, object.as_str()).unwrap();
    agent.ctl("reload").unwrap();
    assert_eq!(warnings(&testbed), Vec::<String>::new());

    let log = agent.output();
    for words in [
        later,
        foreign,
        "since the command line gives them: xdp_mode",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let heard = |words: &str| watch.output().matches(words).count();
    wait_for("the events", PATIENCE, || {
        let all = heard(later) == 1
            && heard("are again those that it started with") == 1
            && heard(foreign) == 2
            && heard("no other owner has an object") == 2;
        Ok(all.then_some(()))
    })
    .unwrap_or_else(|error| panic!("{error:#}: {}", watch.output()));
    watch.kill().unwrap();

    // An agent without the file says that its objects stay as they are.
    testbed.agent.stop().unwrap();
    testbed.agent.options_mut().arguments.clear();
    testbed.agent.run().unwrap();
    let [missing] = &warnings(&testbed)[..] else {
        panic!("{:?}", warnings(&testbed))
    };
    assert!(
        missing.contains("no configuration file was given"),
        "{missing}"
    );
    wait_served(&testbed);
}
