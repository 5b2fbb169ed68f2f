//! The driver `exec`: a program operates the instances. It reads one request as JSON on its standard input and writes one
//! answer as JSON to its standard output, for each call anew.
//!
//! ```json
//! { "version": 1, "owner": "main", "call": "create", "launch": { "name": "web-1-1", … } }
//! { "version": 1, "owner": "main", "call": "stop", "name": "web-1-1", "grace_seconds": 10.0 }
//! ```
//!
//! The answers are `{ "ok": RESULT }`, where the result is that of the call, and
//! `{ "error": { "code": "no_room", "text": "the rack is full" } }`. `docs/pools.md` has a table of both.

use std::{path::PathBuf, process::Command as Program, sync::RwLock, time::Duration};

use async_trait::async_trait;
use lb_model::{
    component::Kind,
    pool::{InstanceName, Launch},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::broadcast;

use crate::{
    Capabilities, Command, Driver, DriverError, Hint, Listed, MAX_OUTPUT, Output, Owned,
    process::run,
};

/// The name of the kind.
pub const NAME: &str = "exec";
/// The kind.
pub static KIND: Kind = Kind::of::<Settings>(
    NAME,
    "Asks a program, which speaks JSON, to operate the instances; the controller needs `--exec-drivers`.",
)
.without_port()
.running_program();

/// The most bytes of an answer. Both outputs of a command are in one answer, and JSON may write a byte with six.
const MAX_ANSWER: usize = 2 * 6 * MAX_OUTPUT + (64 << 10);
/// The version of the requests.
const VERSION: u32 = 1;

lb_model::settings! {
    /// Settings of the driver `exec`.
    #[derive(Eq)]
    pub struct Settings {
        /// The program, with its absolute path.
        program: PathBuf;
        /// Its arguments.
        arguments: Vec<String> = Vec::new();
    }
}

/// The driver `exec`.
#[derive(Debug)]
pub struct ExecDriver {
    settings: Settings,
    owner: String,
    /// What the program can do, as its last list said.
    capabilities: RwLock<Capabilities>,
    hints: broadcast::Sender<Hint>,
}

#[derive(Debug, Serialize)]
struct Request<'a> {
    version: u32,
    owner: &'a str,
    #[serde(flatten)]
    call: Call<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "call", rename_all = "snake_case")]
enum Call<'a> {
    List,
    Create {
        launch: &'a Launch,
    },
    Start {
        name: &'a InstanceName,
    },
    Stop {
        name: &'a InstanceName,
        grace_seconds: f64,
    },
    Remove {
        name: &'a InstanceName,
    },
    Pause {
        name: &'a InstanceName,
    },
    Resume {
        name: &'a InstanceName,
    },
    Exec {
        name: &'a InstanceName,
        words: &'a [String],
        input: String,
    },
    Logs {
        name: &'a InstanceName,
        most: usize,
    },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Answer<T> {
    Ok(T),
    Error(Refusal),
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct ListAnswer {
    instances: Vec<Listed>,
    #[serde(default)]
    capabilities: Capabilities,
}

/// Results that have nothing in them: `{}` or `null`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Done {
    Null(()),
    Empty(
        #[expect(dead_code, reason = "whatever the program says more is ignored")]
        serde_json::Value,
    ),
}

#[derive(Debug, Deserialize)]
struct ExecAnswer {
    status: i64,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

#[derive(Debug, Deserialize)]
struct LogsAnswer {
    text: String,
}

impl ExecDriver {
    /// Opens the driver.
    ///
    /// # Errors
    /// Programs may not be run.
    pub fn open(settings: &Settings, owned: &Owned) -> Result<Self, DriverError> {
        if !owned.allow_exec {
            return Err(DriverError::failed(
                "opening the driver exec",
                "drivers that run programs are off; start the controller with --exec-drivers, which lets everybody who may \
                 change pools run programs as the controller's user",
            ));
        }
        Ok(ExecDriver {
            settings: settings.clone(),
            owner: owned.owner.clone(),
            capabilities: RwLock::default(),
            hints: broadcast::Sender::new(1),
        })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        name: Option<&InstanceName>,
        call: Call<'_>,
    ) -> Result<T, DriverError> {
        let program = self.settings.program.display();
        let failed = |why: String| DriverError::failed(format!("asking {program}"), why);
        let request = Request {
            version: VERSION,
            owner: &self.owner,
            call,
        };
        let input = serde_json::to_vec(&request).map_err(|error| failed(error.to_string()))?;
        let mut command = Program::new(&self.settings.program);
        command.args(&self.settings.arguments).current_dir("/");
        let output =
            run(command, &input, MAX_ANSWER)
                .await
                .map_err(|error| DriverError::Unreachable {
                    engine: format!("the program {program}"),
                    why: error.to_string(),
                })?;
        if output.status != 0 {
            let words = String::from_utf8_lossy(&output.stderr);
            let last = words.trim().lines().last().unwrap_or_default();
            return Err(failed(format!("it ended with {}: {last}", output.status)));
        }
        match serde_json::from_slice(&output.stdout) {
            Ok(Answer::Ok(result)) => Ok(result),
            Ok(Answer::Error(refusal)) => Err(refused(name, refusal, failed)),
            Err(error) => Err(failed(format!("its answer cannot be read: {error}"))),
        }
    }

    async fn done(&self, name: &InstanceName, call: Call<'_>) -> Result<(), DriverError> {
        match self.call(Some(name), call).await? {
            Done::Null(()) | Done::Empty(_) => Ok(()),
        }
    }
}

/// What the program refused.
fn refused(
    name: Option<&InstanceName>,
    refusal: Refusal,
    failed: impl FnOnce(String) -> DriverError,
) -> DriverError {
    let Refusal { code, text: why } = refusal;
    match (code.as_str(), name.cloned()) {
        ("not_found", Some(name)) => DriverError::NotFound(name),
        ("foreign", Some(name)) => DriverError::Foreign {
            name,
            what: "an instance",
        },
        ("no_room", Some(name)) => DriverError::NoRoom { name, why },
        ("invalid", Some(name)) => DriverError::Invalid { name, why },
        ("unsupported", _) => DriverError::Unsupported {
            driver: NAME,
            call: "do that",
        },
        _ => failed(format!("{code}: {why}")),
    }
}

#[async_trait]
impl Driver for ExecDriver {
    fn kind(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        match self.capabilities.read() {
            Ok(capabilities) => *capabilities,
            Err(poisoned) => *poisoned.into_inner(),
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, DriverError> {
        let answer: ListAnswer = self.call(None, Call::List).await?;
        if let Ok(mut capabilities) = self.capabilities.write() {
            *capabilities = Capabilities {
                watch: false,
                ..answer.capabilities
            };
        }
        Ok(answer.instances)
    }

    async fn create(&self, launch: &Launch) -> Result<(), DriverError> {
        self.done(&launch.name, Call::Create { launch }).await
    }

    async fn start(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.done(name, Call::Start { name }).await
    }

    async fn stop(&self, name: &InstanceName, grace: Duration) -> Result<(), DriverError> {
        let call = Call::Stop {
            name,
            grace_seconds: grace.as_secs_f64(),
        };
        self.done(name, call).await
    }

    async fn remove(&self, name: &InstanceName) -> Result<(), DriverError> {
        match self.done(name, Call::Remove { name }).await {
            Err(DriverError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn pause(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.done(name, Call::Pause { name }).await
    }

    async fn resume(&self, name: &InstanceName) -> Result<(), DriverError> {
        self.done(name, Call::Resume { name }).await
    }

    async fn exec(&self, name: &InstanceName, command: &Command) -> Result<Output, DriverError> {
        let input = String::from_utf8_lossy(&command.input).into_owned();
        let call = Call::Exec {
            name,
            words: &command.words,
            input,
        };
        let answer: ExecAnswer = self.call(Some(name), call).await?;
        Ok(Output {
            status: answer.status,
            stdout: answer.stdout.into_bytes(),
            stderr: answer.stderr.into_bytes(),
        })
    }

    async fn logs(&self, name: &InstanceName, most: usize) -> Result<Vec<u8>, DriverError> {
        let answer: LogsAnswer = self.call(Some(name), Call::Logs { name, most }).await?;
        Ok(answer.text.into_bytes())
    }

    fn watch(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}
