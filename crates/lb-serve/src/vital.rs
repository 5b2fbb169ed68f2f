//! The vital parts of a process: the tasks and threads without which it must not live on.
//!
//! Tokio keeps the panic of a task to itself, and the panic of a thread shows only to the one who joins it. So a process
//! whose owner of the tables is dead would still look alive to a service manager. Each long-lived part is registered here
//! under a name; the program waits for the first end of any of them and then ends, with the name and the reason. Packets
//! flow on without it, and the service manager starts it again.

use std::{any::Any, fmt, thread, time::Duration};

use lb_model::duration;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
};

/// The registered parts, and the news of their ends.
#[derive(Debug)]
pub struct Vital {
    sender: mpsc::UnboundedSender<End>,
    ends: mpsc::UnboundedReceiver<End>,
    /// Parts whose end was taken.
    ended: Vec<&'static str>,
}

/// The end of a part.
#[derive(Debug)]
pub struct End {
    /// Its name, such as `the API`.
    pub part: &'static str,
    /// Why it ended.
    pub cause: Cause,
}

/// Why a part ended.
#[derive(Debug)]
pub enum Cause {
    /// It returned.
    Returned,
    /// It returned an error.
    Failed(anyhow::Error),
    /// It panicked, with this message: a fault of the program.
    Panicked(String),
    /// It was told to end.
    Aborted,
    /// It has made no progress for so long: see [`crate::watchdog`].
    Hung(Duration),
}

/// What a part returns.
pub trait Outcome: Send + 'static {
    /// Why it ended.
    fn cause(self) -> Cause;
}

impl Outcome for () {
    fn cause(self) -> Cause {
        Cause::Returned
    }
}

impl Outcome for anyhow::Result<()> {
    fn cause(self) -> Cause {
        self.map_or_else(Cause::Failed, |()| Cause::Returned)
    }
}

impl Default for Vital {
    fn default() -> Self {
        Self::new()
    }
}

impl Vital {
    /// No part yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, ends) = mpsc::unbounded_channel();
        Vital {
            sender,
            ends,
            ended: Vec::new(),
        }
    }

    /// Registers a task. Must be called inside a Tokio runtime.
    pub fn task<T: Outcome>(&self, part: &'static str, task: JoinHandle<T>) -> AbortHandle {
        let handle = task.abort_handle();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let cause = match task.await {
                Ok(outcome) => outcome.cause(),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => Cause::Panicked(message(&*panic)),
                    Err(_) => Cause::Aborted,
                },
            };
            // A program that ends does not listen any more.
            let _ = sender.send(End { part, cause });
        });
        handle
    }

    /// Spawns a future as a task and registers it.
    pub fn spawn<F>(&self, part: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.task(part, tokio::spawn(future))
    }

    /// Registers a thread.
    ///
    /// # Errors
    /// If the thread that waits for it cannot be started.
    pub fn thread<T: Outcome>(
        &self,
        part: &'static str,
        thread: thread::JoinHandle<T>,
    ) -> std::io::Result<()> {
        let sender = self.sender.clone();
        // Not a blocking task of the runtime: a runtime that is shut down would wait for it.
        thread::Builder::new()
            .name("vital".to_owned())
            .spawn(move || {
                let cause = match thread.join() {
                    Ok(outcome) => outcome.cause(),
                    Err(panic) => Cause::Panicked(message(&*panic)),
                };
                // A program that ends does not listen any more.
                let _ = sender.send(End { part, cause });
            })?;
        Ok(())
    }

    /// Takes reports of ends from elsewhere.
    pub(crate) fn reporter(&self) -> mpsc::UnboundedSender<End> {
        self.sender.clone()
    }

    /// Waits for the next end of a part.
    pub async fn next_end(&mut self) -> End {
        match self.ends.recv().await {
            Some(end) => {
                self.ended.push(end.part);
                end
            }
            // `self` has a sender, so there is always one.
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of a part that was asked to end. Ends of others in the meantime are of no interest, unless they
    /// are panics.
    ///
    /// # Errors
    /// If the part failed, or any part panicked or hangs.
    pub async fn finish(&mut self, part: &'static str) -> anyhow::Result<()> {
        while !self.ended.contains(&part) {
            let end = self.next_end().await;
            if matches!(
                end.cause,
                Cause::Panicked(_) | Cause::Failed(_) | Cause::Hung(_)
            ) {
                return Err(end.into_error());
            }
        }
        Ok(())
    }
}

impl End {
    /// Why the program ends, for its operator.
    #[must_use]
    pub fn into_error(self) -> anyhow::Error {
        let text = self.to_string();
        match self.cause {
            Cause::Failed(error) => error.context(text),
            _ => anyhow::Error::msg(text),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match &self.cause {
            Cause::Returned | Cause::Aborted => write!(f, "{part} ended by itself"),
            Cause::Failed(_) => write!(f, "{part} failed"),
            Cause::Hung(limit) => {
                let limit = duration::format(*limit);
                write!(f, "{part} hangs: it has made no progress for {limit}")
            }
            Cause::Panicked(message) => {
                write!(
                    f,
                    "{part} panicked, which is a fault of this program: {message}"
                )
            }
        }
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "(no message)".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A part that ends within a test does so at once.
    const PATIENCE: Duration = Duration::from_secs(20);

    async fn next_end(vital: &mut Vital) -> String {
        let end = tokio::time::timeout(PATIENCE, vital.next_end()).await;
        format!("{:#}", end.unwrap().into_error())
    }

    #[tokio::test]
    async fn ends_are_told_with_their_reason() {
        let mut vital = Vital::new();
        vital.spawn("a task", async {});
        assert_eq!(next_end(&mut vital).await, "a task ended by itself");
        vital.spawn("a server", async { anyhow::bail!("no socket") });
        assert_eq!(next_end(&mut vital).await, "a server failed: no socket");
        vital.spawn("a listener", async {
            let name = "it";
            assert!(name.is_empty(), "{name} broke");
        });
        let message = next_end(&mut vital).await;
        assert!(
            message.starts_with("a listener panicked") && message.ends_with("it broke"),
            "{message}"
        );
        let panic = || -> () { std::panic::panic_any(7) };
        let thread = thread::spawn(panic);
        vital.thread("a thread", thread).unwrap();
        let message = next_end(&mut vital).await;
        assert!(
            message.starts_with("a thread panicked") && message.ends_with("(no message)"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_part_that_was_asked_to_end_is_no_failure() {
        let mut vital = Vital::new();
        let forever = || std::future::pending::<()>();
        vital.spawn("one", forever()).abort();
        vital.spawn("other", forever()).abort();
        vital.finish("one").await.unwrap();
        vital.finish("other").await.unwrap();
        vital.finish("one").await.unwrap();
        vital.spawn("three", async { anyhow::bail!("no disk") });
        let error = vital.finish("three").await.unwrap_err();
        assert_eq!(format!("{error:#}"), "three failed: no disk");
    }
}
