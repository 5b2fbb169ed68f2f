//! `lb-agent host`.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use lb_agent::host::{self, Options};
use lb_hosts::{server::Room, token::Token};
use lb_model::{host::HostName, pool::Size};

/// Arguments of `host`.
#[derive(Debug, clap::Args)]
pub struct Host {
    /// Join a controller by this token, which `lbctl host token` prints there.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "LB_HOST_TOKEN",
        hide_env_values = true
    )]
    join: Option<Token>,
    /// Where the controller listens for hosts (its setting hosts.listen) [default: where it was last].
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    controller: Option<String>,
    /// What this host is called when it joins: 1 to 63 of a-z, 0-9 and -, beginning with a letter
    /// [default: the machine's name].
    #[arg(long, value_name = "NAME")]
    name: Option<HostName>,
    /// Folder of the host's key, its certificate and its drivers.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/lb-host")]
    state: PathBuf,
    /// A label, by which pools choose hosts; give it again for more.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Cores that instances may have [default: all].
    #[arg(long, value_name = "CORES", value_parser = cores)]
    cpu: Option<f64>,
    /// Memory that instances may have, such as 64GiB [default: nine tenths of the machine's].
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Let the controller use the driver `exec`: it then runs programs as this program's user.
    #[arg(long)]
    exec_drivers: bool,
    /// Address of this host at which it receives virtual machines that move here while they run. Their memory is sent
    /// unencrypted: give one of a network that only hosts are on [default: what the pool's driver says].
    #[arg(long, value_name = "ADDRESS")]
    receive_at: Option<IpAddr>,
    /// How long a part may make no progress, 5s to 1h: the program ends then, to be started again.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = super::watchdog)]
    watchdog: Duration,
}

fn address(text: &str) -> Result<String, String> {
    let port = text
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()));
    match port {
        Some((host, Ok(1..))) if !host.is_empty() => Ok(text.to_owned()),
        _ => {
            Err("give HOST:PORT, such as controller.example:7443 or [2001:db8::1]:7443".to_owned())
        }
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE, such as rack=a7".to_owned()),
    }
}

fn cores(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cores) if (0.01..=4_096.0).contains(&cores) => Ok(cores),
        _ => Err("give 0.01 to 4096".to_owned()),
    }
}

impl Host {
    pub fn execute(self) -> anyhow::Result<()> {
        super::log_to_stderr(None);
        let room = Room {
            cpu: match self.cpu {
                Some(cpu) => cpu,
                None => std::thread::available_parallelism()
                    .context("counting cores")?
                    .get() as f64,
            },
            memory: match self.memory {
                Some(Size(bytes)) => bytes,
                None => {
                    lb_hosts::server::memory_of_machine().context("reading the machine's memory")?
                        / 10
                        * 9
                }
            },
            labels: self.label.into_iter().collect::<BTreeMap<_, _>>(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("starting the runtime")?;
        let served = runtime.block_on(host::run(Options {
            state: self.state,
            join: self.join,
            controller: self.controller,
            name: self.name,
            room,
            exec_drivers: self.exec_drivers,
            receive_at: self.receive_at,
            watchdog: self.watchdog,
        }));
        // A driver's call that hangs must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        served
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        assert_eq!(address("[::1]:7443"), Ok("[::1]:7443".to_owned()));
        for text in ["controller", ":7443", "controller:0", "controller:x"] {
            address(text).expect_err(text);
        }
        assert_eq!(label("rack=a=b"), Ok(("rack".to_owned(), "a=b".to_owned())));
        label("=a").unwrap_err();
        label("rack").unwrap_err();
        assert_eq!(cores("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "many"] {
            cores(text).expect_err(text);
        }
    }
}
