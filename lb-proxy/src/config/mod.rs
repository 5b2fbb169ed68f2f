//! The configuration file: TOML, unknown settings are errors. The command line overrides it.

mod edit;
pub mod environment;
mod settings;
mod stream;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use lb_clients::health::probe;
use lb_model::{
    document::{self, Fault, FileError, take_tables},
    settings::{self as model, FieldError, Map, Settings, Value},
};

pub use edit::{Edit, EditError, edit, replace};
pub use settings::{
    AccessLog, CacheSettings, Certificate, Clients, HashKey, HeaderText, ListenerSettings,
    MemberAddress, MemberSettings, Name, Protocol, ProxySettings, RouteSettings, ServiceSettings,
};
pub use stream::{PoolStream, StreamPlace};

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Settings of the proxy as a whole.
    pub proxy: ProxySettings,
    /// Addresses that clients connect to.
    pub listeners: Vec<ListenerSettings>,
    /// Which requests go to which service.
    pub routes: Vec<RouteSettings>,
    /// Services by name.
    pub services: BTreeMap<String, ServiceConfig>,
}

/// A service of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// Its settings.
    pub settings: ServiceSettings,
    /// Instances that are written into the file.
    pub members: Vec<MemberSettings>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            proxy: model::defaults(),
            listeners: Vec::new(),
            routes: Vec::new(),
            services: BTreeMap::new(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A variable of the environment is refused.
    #[error("{name}={value}: {advice}")]
    Environment {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        advice: String,
    },
}

/// The error of a setting of the object at this path, which is also what the object is called.
fn fault(path: &str, error: FieldError) -> Fault {
    Fault::new(path.to_owned(), path, error)
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with the line, the setting, and what would be right.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::read_with_sum(path).map(|(config, _)| config)
    }

    /// As [`Config::read`]. Returns the CRC-32 of the file's bytes, too: the one of IEEE 802.3, as `gzip` and `zlib` have it.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read_with_sum(path: &Path) -> Result<(Self, u32), ConfigError> {
        let text = document::read(path)?;
        let config = Self::parse(&text, path)?;
        Ok((config, crc32fast::hash(text.as_bytes())))
    }

    /// Checks the text of a file, which errors call `path`.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config = document::parse(text, path, |root| {
            let config = Config::from_settings(root)?;
            config.check()?;
            Ok(config)
        })?;
        Ok(config)
    }

    fn from_settings(mut root: Map<String, Value>) -> Result<Self, Fault> {
        let at_root = |error| fault("", error);
        let listeners = take_tables(&mut root, "listener").map_err(at_root)?;
        let routes = take_tables(&mut root, "route").map_err(at_root)?;
        let services = take_tables(&mut root, "service").map_err(at_root)?;
        let proxy: ProxySettings = model::from_map(&root).map_err(at_root)?;
        let mut by_name = BTreeMap::new();
        for (position, mut table) in services.into_iter().enumerate() {
            let path = format!("service[{position}]");
            let here = |error| fault(&path, error);
            let members = take_tables(&mut table, "member").map_err(here)?;
            let members = read(&members, &format!("{path}.member"))?;
            let mut settings: ServiceSettings = model::from_map(&table).map_err(here)?;
            if let Some(check) = &mut settings.check {
                *check = probe::normalize(check).map_err(|error| here(error.within("check")))?;
            }
            check_service(&settings, &members, &proxy).map_err(here)?;
            let name = settings.name.clone();
            if by_name
                .insert(name.clone(), ServiceConfig { settings, members })
                .is_some()
            {
                let advice = "two services have this name; rename one";
                return Err(here(FieldError::new("name", name, advice)));
            }
        }
        Ok(Config {
            proxy,
            listeners: read(&listeners, "listener")?,
            routes: read(&routes, "route")?,
            services: by_name,
        })
    }

    /// Checks what concerns several objects.
    fn check(&self) -> Result<(), Fault> {
        let refuse = |path: String, field: &str, value: &dyn std::fmt::Display, advice: &str| {
            Err(fault(&path, FieldError::new(field, value, advice)))
        };
        let mut addresses = BTreeSet::new();
        for (position, listener) in self.listeners.iter().enumerate() {
            let path = format!("listener[{position}]");
            if !addresses.insert(listener.address) {
                let advice = "two listeners have this address; merge them";
                return refuse(path, "address", &listener.address, advice);
            }
            if let Some(name) = &listener.service
                && !self.services.contains_key(name)
            {
                return refuse(path, "service", name, "there is no service of this name");
            }
        }
        let mut matches = BTreeSet::new();
        for (position, route) in self.routes.iter().enumerate() {
            let path = format!("route[{position}]");
            if !self.services.contains_key(&route.service) {
                let advice = "there is no service of this name";
                return refuse(path, "service", &route.service, advice);
            }
            let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
            if !matches.insert((host, route.path.trim_end_matches('/'))) {
                let advice = "two routes have this host and path; merge them";
                return refuse(path, "path", &route.path, advice);
            }
        }
        Ok(())
    }
}

/// Checks what concerns more than one setting of a service.
fn check_service(
    settings: &ServiceSettings,
    members: &[MemberSettings],
    proxy: &ProxySettings,
) -> Result<(), FieldError> {
    let sources = [
        !members.is_empty(),
        settings.members_file.is_some(),
        settings.vip.is_some(),
        settings.pool.is_some(),
    ];
    if sources.iter().filter(|given| **given).count() > 1 {
        let advice =
            "instances come from one of member, members_file, vip and pool; remove the others";
        return Err(FieldError::new("name", &settings.name, advice));
    }
    if let Some(check) = &settings.check
        && probe::runs_program(check)
        && !proxy.exec_checks
    {
        let advice =
            "checks that run programs are off; give `exec_checks = true` at the top of the file";
        return Err(FieldError::new("check.kind", &check.probe.kind, advice));
    }
    Ok(())
}

/// Reads a list of tables of settings; `path` is the list's path in the document.
fn read<T: Settings>(tables: &[Map<String, Value>], path: &str) -> Result<Vec<T>, Fault> {
    let read = |(position, table)| {
        model::from_map(table).map_err(|error| fault(&format!("{path}[{position}]"), error))
    };
    tables.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
threads = 2
admin = "127.0.0.1:9470"
trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]

[[listener]]
address = "127.0.0.1:8080"

[[listener]]
address = "127.0.0.1:5432"
protocol = "tcp"
service = "db"

[[route]]
host = "*.example.com"
path = "/api"
service = "web"
set_request_headers = { X-Tenant = "a" }

[[service]]
name = "web"
choice = "round-robin"
cache = { items = 100, default_ttl = "1m" }
[[service.member]]
address = "127.0.0.1:9001"

[[service]]
name = "db"
members_file = "/etc/lb/db.members"
"#;

    fn refused(text: &str) -> String {
        Config::parse(text, Path::new("f")).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let config = Config::parse(GOOD, Path::new("f")).unwrap();
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.services["web"].members[0].weight, 100);
        assert_eq!(
            config.services["web"]
                .settings
                .cache
                .as_ref()
                .unwrap()
                .items,
            100
        );
        assert_eq!(
            config.proxy.trusted_proxies[1].to_string(),
            "2001:db8::1/128"
        );
    }

    #[test]
    fn members_have_addresses_or_names_and_a_check_with_its_defaults() {
        let text = GOOD
            .replace("127.0.0.1:9001", "Backend.internal:9001")
            .replace(
                "name = \"web\"",
                "name = \"web\"\ncheck = { kind = \"http\", path = \"/up\" }",
            );
        let config = Config::parse(&text, Path::new("f")).unwrap();
        let web = &config.services["web"];
        let name = MemberAddress::Name("backend.internal".to_owned(), 9001);
        assert_eq!(web.members[0].address, name);
        let check = web.settings.check.as_ref().unwrap();
        assert_eq!(check.probe.settings["path"], "/up");
        assert!(check.probe.settings.contains_key("method"), "{check:?}");
        let text = text
            .replace("threads = 2", "threads = 2\nexec_checks = true")
            .replace(
                "kind = \"http\", path = \"/up\"",
                "kind = \"exec\", command = [\"/bin/true\"]",
            );
        Config::parse(&text, Path::new("f")).unwrap();
    }

    #[test]
    fn the_sum_of_a_file_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.toml");
        std::fs::write(&path, "# 123456789\n").unwrap();
        let (_, sum) = Config::read_with_sum(&path).unwrap();
        // As zlib's `crc32` has it.
        assert_eq!(sum, 0x917d_5f91);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (from, to, line, words) in [
            ("threads = 2", "thread = 2", 2, "no such setting"),
            (
                "protocol = \"tcp\"\nservice = \"db\"",
                "protocol = \"tcp\"",
                9,
                "name the service",
            ),
            (
                "service = \"db\"",
                "service = \"dbx\"",
                12,
                "no service of this name",
            ),
            (
                "service = \"web\"",
                "service = \"wob\"",
                17,
                "no service of this name",
            ),
            ("path = \"/api\"", "path = \"api\"", 16, "begin with /"),
            ("\"*.example.com\"", "\"a b\"", 15, "host name"),
            ("\"round-robin\"", "\"best\"", 22, "round-robin"),
            ("X-Tenant", "Content-Length", 18, "the proxy itself"),
            ("10.0.0.0/8", "10.0.0.0/99", 4, "ADDRESS/LENGTH"),
            ("127.0.0.1:5432", "127.0.0.1:8080", 10, "two listeners"),
            ("name = \"db\"", "name = \"web\"", 28, "two services"),
            (
                "protocol = \"tcp\"",
                "protocol = \"tcp\"\nhealth_path = \"/health\"",
                12,
                "clients of `tcp` ask for no path",
            ),
            (
                "address = \"127.0.0.1:8080\"",
                "address = \"127.0.0.1:8080\"\nhealth_path = \"/health?x\"",
                8,
                "a path without query",
            ),
            (
                "address = \"127.0.0.1:8080\"",
                "address = \"127.0.0.1:8080\"\nroutes = false",
                8,
                "`health_path` alone",
            ),
            ("127.0.0.1:9001", "10.0.0.300:9001", 25, "NAME:PORT"),
            ("127.0.0.1:9001", "backend.internal", 25, "NAME:PORT"),
            (
                "127.0.0.1:9470",
                "/run/lb-proxy.sock",
                3,
                "127.0.0.1:9470, or unix:PATH",
            ),
        ] {
            let error = refused(&GOOD.replace(from, to));
            assert!(
                error.starts_with(&format!("f:{line}: ")) && error.contains(words),
                "{to}: {error}"
            );
        }
        for (setting, words) in [
            ("kind = \"smoke\"", "there are tcp, http"),
            ("kind = \"http\", pathh = \"/\"", "no such setting"),
            ("kind = \"http\", path = \"x\"", "path"),
            ("kind = \"tcp\", interval = \"0s\"", "interval"),
            (
                "kind = \"tcp\", via = \"tunnel\"",
                "only lb-agent has a tunnel",
            ),
            (
                "kind = \"exec\", command = [\"/bin/true\"]",
                "give `exec_checks = true`",
            ),
        ] {
            let error = refused(&GOOD.replace(
                "name = \"web\"",
                &format!("name = \"web\"\ncheck = {{ {setting} }}"),
            ));
            assert!(
                error.starts_with("f:22: ") && error.contains(words),
                "{setting}: {error}"
            );
        }
        for (source, words) in [
            ("vip = \"10.0.0.1:80/tcp\"", "lb-agent checks the reals"),
            ("pool = \"ws://127.0.0.1:1/\"", "the controller checks"),
        ] {
            let error = refused(&GOOD.replace(
                "members_file = \"/etc/lb/db.members\"",
                &format!("{source}\ncheck = {{ kind = \"tcp\" }}"),
            ));
            assert!(error.contains(words), "{error}");
        }
        let error = refused(&format!(
            "{GOOD}[[service.member]]\naddress = \"127.0.0.1:1\"\n"
        ));
        assert!(
            error.starts_with("f:28: ") && error.contains("instances come from one of"),
            "{error}"
        );
    }
}
