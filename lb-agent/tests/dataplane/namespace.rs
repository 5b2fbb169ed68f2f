//! A network namespace that lives as long as its thread, so nothing is left behind however a test ends.

use std::{
    process::Command,
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
};

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// Runs closures inside a namespace of its own.
pub struct Namespace {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Namespace {
    /// A fresh one, with its loopback interface up.
    pub fn new() -> Namespace {
        let (jobs, queue) = channel::<Job>();
        let (tell, told) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in queue {
                job();
            }
        });
        let namespace = Namespace {
            jobs: Some(jobs),
            thread: Some(thread),
            tid: told.recv().unwrap(),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// The id by which `ip link set … netns ID` finds it.
    pub fn id(&self) -> i32 {
        self.tid
    }

    /// Runs a closure inside; its panic is this thread's.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let job = move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            let _ = tell.send(result);
        };
        self.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        match told.recv().unwrap() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &str) {
        self.command("ip", arguments);
    }

    /// Runs a command inside; it must succeed.
    pub fn command(&self, program: &'static str, arguments: &str) {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(program).args(&arguments).output().unwrap();
            assert!(
                output.status.success(),
                "{program} {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
