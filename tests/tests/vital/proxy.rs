//! Threads of `lb-proxy` that hang.

use std::{fs, process::Command};

use lb_tests::{Process, binary, freeze_threads};

use crate::fixture::PATIENCE;

pub fn a_proxy_whose_thread_hangs_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let text = "watchdog = \"5s\"\nthreads = 2\n[[listener]]\naddress = \"127.0.0.1:0\"\n";
    fs::write(&file, text).unwrap();
    let mut proxies: Vec<(Process, &str)> = [
        ("worker-1", "a thread that serves clients hangs"),
        (
            "tokio-rt-worker",
            "the runtime, which follows the sources of instances, hangs",
        ),
        (
            "lb-proxy",
            "the thread that looks after instances and the configuration hangs",
        ),
    ]
    .into_iter()
    .map(|(thread, reason)| {
        let mut command = Command::new(binary("lb-proxy").unwrap());
        command.args(["run", "--config"]).arg(&file);
        let mut proxy = Process::start("lb-proxy", command).unwrap();
        proxy.wait_line("lb-proxy:", "ready", PATIENCE).unwrap();
        freeze_threads(proxy.id(), thread).unwrap();
        (proxy, reason)
    })
    .collect();
    for (proxy, reason) in &mut proxies {
        let (status, output) = proxy.wait_end(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(1), "{output}");
        let reason = format!("{reason}: it has made no progress for 5s");
        assert!(output.contains(&reason), "{reason}: {output}");
    }
}
