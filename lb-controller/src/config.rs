//! The configuration file: TOML, unknown settings are errors. The command line overrides it.
//!
//! Pools of the file belong to it: at start and at each reload they are made what it says, and one that is no longer in it is
//! deleted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use lb_model::{
    dns::DnsSpec,
    document::{self, Fault, FileError, take_tables},
    intent::Owner,
    pool::{PoolName, PoolSpec, Size},
    settings::{self, FieldError, Map, Value},
};
use lb_serve::Endpoint;

use crate::{
    access::AccessSettings,
    agents,
    controller::{check_new_name, overlap, read_new},
    hosts::HostSettings,
    keeper::Place,
    orphans::CollectorSettings,
    registry::{NodeSettings, SharedSettings},
};

/// Where the API listens by default.
pub const DEFAULT_LISTEN: &str = "unix:/run/lb-controller/api.sock";

/// How long a vital part may make no progress by default.
const DEFAULT_WATCHDOG: Duration = Duration::from_secs(60);

fn default_listen() -> Vec<Endpoint> {
    // The constant is an endpoint, as a test shows.
    DEFAULT_LISTEN.parse().into_iter().collect()
}

lb_model::settings! {
    /// Settings of the controller as a whole; the command line overrides them.
    pub struct ControllerSettings {
        /// The controller's name (`--name`): instances and reals belong to it. Several controllers on one machine have
        /// different names.
        name: String = "main".to_owned();
        /// Folder of the database and of the drivers (`--state`).
        state: PathBuf = "/var/lib/lb-controller".into();
        /// Where pools and instances are stored (`--store`): `redb`, a file in the folder, or `redis:URL`.
        store: String = "redb".to_owned();
        /// Where the API listens (`--listen`): `unix:PATH`, or `http://ADDRESS:PORT` with a loopback address.
        listen: Vec<Endpoint> = default_listen();
        /// Where HTTP/JSON, WebSockets and metrics are served (`--http`). Not encrypted: passwords are not sent, tokens are.
        http: Option<SocketAddr> = None;
        /// Origins of web pages that may use HTTP/JSON (`--http-origin`), `*` for any.
        http_origins: Vec<String> = Vec::new();
        /// The agents whose VIPs the instances serve (`--agent`): `unix:PATH` or `http://HOST:PORT`.
        agents: Vec<String> = Vec::new();
        /// The program that makes instances reals (`--agent-program`). Default: `lb-agent` beside this program.
        agent_program: Option<PathBuf> = None;
        /// Whether pools may have the driver `exec` (`--exec-drivers`): whoever may call the API then runs programs as the
        /// controller's user.
        exec_drivers: bool = false;
        /// Who may use the controller.
        access: AccessSettings = AccessSettings::default();
        /// The most bytes of the history of load. A series has 600 kB at most; when there is no room for all, load balancers
        /// and pools have theirs before instances.
        history_disk: Size = Size(1 << 30), Size(1 << 20)..=Size(1 << 44);
        /// How the nodes of load balancers are made. Without it there are none.
        nodes: Option<NodeSettings> = None;
        /// How shared load balancers are made. Without it there are none.
        shared: Option<SharedSettings> = None;
        /// Other machines that run instances for this controller. Without it none can join.
        hosts: Option<HostSettings> = None;
        /// How what nothing refers to any more is removed.
        collector: CollectorSettings = CollectorSettings::default();
        /// The names of load balancers in DNS. Without it they have addresses only.
        dns: Option<DnsSpec> = None;
        /// How long a vital part may make no progress. The controller ends then, and the service manager starts it again;
        /// instances run on meanwhile.
        watchdog: Duration = DEFAULT_WATCHDOG, Duration::from_secs(5)..=Duration::from_secs(3_600);
    }
    validate(settings) {
        let settings: &ControllerSettings = settings;
        check_name(&settings.name).map_err(|advice| FieldError::new("name", format!("{:?}", settings.name), advice))?;
        if settings.store.parse::<Place>().is_err() {
            // It may have a password.
            let advice = "give redb, or redis:URL such as redis://127.0.0.1:6379";
            return Err(FieldError::new("store", "what is given", advice));
        }
        for (position, text) in settings.agents.iter().enumerate() {
            if let Err(advice) = text.parse::<agents::Endpoint>() {
                return Err(FieldError::new(format!("agents[{position}]"), format!("{text:?}"), advice));
            }
        }
        Ok(())
    }
}

/// Whether a controller can have this name.
///
/// # Errors
/// What would be right.
pub fn check_name(name: &str) -> Result<(), String> {
    let owner = format!("controller:{name}").parse::<Owner>();
    owner.map(drop).map_err(|error| error.to_string())
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Settings of the controller as a whole.
    pub settings: ControllerSettings,
    /// The pools of the file.
    pub pools: BTreeMap<PoolName, PoolSpec>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            settings: settings::defaults(),
            pools: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`FileError`] with the line, the setting, and what would be right.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = document::read(path)?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file, which errors call `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        document::parse(text, path, Config::from_settings)
    }

    fn from_settings(mut root: Map<String, Value>) -> Result<Self, Fault> {
        let at_root = |error| Fault::new(String::new(), "", error);
        let tables = take_tables(&mut root, "pool").map_err(at_root)?;
        let settings = settings::from_map(&root).map_err(at_root)?;
        let mut pools: BTreeMap<PoolName, PoolSpec> = BTreeMap::new();
        for (position, mut table) in tables.into_iter().enumerate() {
            let path = format!("pool[{position}]");
            let text: String = settings::take_field(&mut table, "name", None)
                .map_err(|error| Fault::new(path.clone(), &path, error))?;
            let name: PoolName = text.parse().map_err(|error: lb_model::pool::NameError| {
                let error = FieldError::new("name", format!("{text:?}"), error.to_string());
                Fault::new(path.clone(), &path, error)
            })?;
            let object = format!("pool {name}");
            let here = |error| Fault::new(path.clone(), &object, error);
            check_new_name(&name).map_err(here)?;
            let spec = read_new(&table).map_err(here)?;
            if pools.contains_key(&name) {
                let advice = "two pools have this name; rename one";
                return Err(here(FieldError::new("name", &name, advice)));
            }
            for (other, taken) in &pools {
                if let Some(error) = overlap(&spec, taken, other) {
                    return Err(here(error));
                }
            }
            pools.insert(name, spec);
        }
        Ok(Config { settings, pools })
    }

    /// The pools that run programs of the operator to operate their instances.
    #[must_use]
    pub fn exec_pools(&self) -> Vec<&PoolName> {
        let is_exec = |(_, spec): &(&PoolName, &PoolSpec)| spec.driver().kind == "exec";
        let pools = self.pools.iter().filter(is_exec);
        pools.map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "one"
http = "127.0.0.1:8080"
agents = ["unix:/run/lb-agent/api.sock"]

[[pool]]
name = "web"
driver = { kind = "process" }
network = { port = 8000 }
template = { program = "/bin/true" }
scaling = { min = 2, max = 8 }

[[pool]]
name = "shop"
driver = { kind = "process" }
network = { port = 9000 }
template = { program = "/bin/true" }
"#;

    fn refused(text: &str) -> String {
        Config::parse(text, Path::new("f")).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let config = Config::parse(GOOD, Path::new("f")).unwrap();
        assert_eq!(config.settings.name, "one");
        assert_eq!(config.settings.listen[0].to_string(), DEFAULT_LISTEN);
        assert_eq!(config.pools.len(), 2);
        let web = &config.pools[&"web".parse().unwrap()];
        assert_eq!(web.scaling.max, 8);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (from, to, line, words) in [
            ("http = ", "https = ", 3, "no such setting"),
            ("name = \"one\"", "name = \"a b\"", 2, "name"),
            ("unix:/run", "/run", 4, "write unix:PATH"),
            ("name = \"shop\"", "name = \"web\"", 14, "two pools"),
            ("name = \"shop\"", "name = \"Shop\"", 14, "a-z"),
            ("port = 9000", "port = 8003", 16, "pool web has the ports"),
            ("max = 8", "max = 1", 11, "max"),
            (
                "kind = \"process\" }\nnetwork = { port = 8000",
                "kind = \"magic\" }\nnetwork = { port = 8000",
                8,
                "magic",
            ),
        ] {
            let error = refused(&GOOD.replace(from, to));
            assert!(
                error.starts_with(&format!("f:{line}: ")) && error.contains(words),
                "{to}: {error}"
            );
        }
    }
}
