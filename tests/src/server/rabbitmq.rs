//! RabbitMQ as a real.

use std::{fs, time::Duration};

use anyhow::Context as _;
use tempfile::TempDir;

use super::wait_accepting;
use crate::{Namespace, Process};

/// How long RabbitMQ may take to start: it starts a virtual machine and creates its database.
const START: Duration = Duration::from_secs(120);

/// A running RabbitMQ with its plugins for MQTT and Prometheus. It requires a login, and knows one.
#[derive(Debug)]
pub struct RabbitMq {
    // Before the folder: the process ends first.
    _process: Process,
    _folder: TempDir,
}

impl RabbitMq {
    /// The program. Debian's `/usr/sbin/rabbitmq-server` starts it as another user, which cannot read the testbed's
    /// folder.
    pub const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

    /// Name and password that may log in from the same host.
    pub const LOGIN: (&str, &str) = ("guest", "guest");

    /// Starts RabbitMQ in `namespace` with these ports for MQTT and metrics, on every IPv4 address. Its port mapper runs
    /// in the same namespace and ends with it.
    ///
    /// # Errors
    /// Fails if RabbitMQ is missing or does not accept connections in time.
    pub fn start(namespace: &Namespace, mqtt: u16, metrics: u16) -> anyhow::Result<Self> {
        let folder =
            TempDir::with_prefix("lb-rabbitmq-").context("making a folder for RabbitMQ")?;
        let path = |name: &str| folder.path().join(name);
        fs::write(
            path("rabbitmq.conf"),
            format!(
                "listeners.tcp = none\n\
                 mqtt.listeners.tcp.default = {mqtt}\n\
                 mqtt.allow_anonymous = false\n\
                 prometheus.tcp.port = {metrics}\n\
                 log.console = true\n\
                 log.console.level = warning\n\
                 log.file = false\n"
            ),
        )?;
        fs::write(
            path("enabled_plugins"),
            "[rabbitmq_mqtt,rabbitmq_prometheus].\n",
        )?;
        let mut command = namespace.command(Self::PROGRAM);
        command
            .env("HOME", folder.path())
            // The settings of the machine's own RabbitMQ must not apply.
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_NODENAME", "lb@localhost")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path("config"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            // Two scheduler threads are enough, and they must not busy-wait while idle.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            )
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        let mut process = Process::start(&format!("RabbitMQ in {}", namespace.label()), command)?;
        for port in [mqtt, metrics] {
            let target = ([127, 0, 0, 1], port).into();
            wait_accepting(namespace, target, &mut process, START)?;
        }
        Ok(Self {
            _process: process,
            _folder: folder,
        })
    }
}
