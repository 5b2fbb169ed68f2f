//! Configuration by variables of the environment, for a proxy that is started without a file: one listener, one service.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use lb_model::settings::{self, Map, Value};

use super::{Config, ConfigError, PoolStream, ServiceConfig};

/// Where clients connect to: a port, or ADDRESS:PORT.
pub const HTTP: &str = "HOST_PORT_HTTP_BALANCER";
/// The WebSocket of the deployment agent: a port, HOST:PORT, or a whole URL.
pub const WEB_SOCKET: &str = "HOST_PORT_WS_DEPLOYMENT_AGENT";
/// Port of the instances.
pub const TARGET_PORT: &str = "TARGET_PORT";
/// Answers that may be cached; 0 turns the cache off.
pub const CACHE_CAPACITY: &str = "CACHE_CAPACITY";
/// How long an instance may take to answer, in seconds.
pub const REQUEST_TIMEOUT: &str = "REQUEST_TIMEOUT";

/// How long static answers without a lifetime are fresh: nothing else would be cached of most services.
const DEFAULT_TTL: &str = "1m";

/// The name of the service.
pub const SERVICE: &str = "default";

/// Returns the configuration that the variables describe, or `None` if [`HTTP`] is not set. `pool` takes the place of
/// [`WEB_SOCKET`], which is not needed either if `has_agent`.
///
/// # Errors
/// Returns the variable that is missing or wrong.
pub fn config(
    variable: impl Fn(&'static str) -> Option<String>,
    pool: Option<&PoolStream>,
) -> Result<Option<Config>, ConfigError> {
    let Some(address) = variable(HTTP) else {
        return Ok(None);
    };
    let listener = listen_address(&address)?;
    let mut config = Config::default();
    let mut table = Map::new();
    table.insert("address".to_owned(), listener.to_string().into());
    config.listeners.push(read(&table, HTTP, &address)?);

    let mut service = Map::new();
    service.insert("name".to_owned(), SERVICE.into());
    match (pool, variable(WEB_SOCKET)) {
        (Some(pool), _) => {
            service.insert("pool".to_owned(), pool.to_string().into());
        }
        (None, Some(value)) => {
            service.insert("pool".to_owned(), web_socket(&value).into());
        }
        (None, None) => {
            return Err(refused(
                WEB_SOCKET,
                "",
                "set it to the port of the deployment agent's WebSocket",
            ));
        }
    }
    if let Some(port) = variable(TARGET_PORT) {
        let port: u16 = number(TARGET_PORT, &port)?;
        service.insert("port".to_owned(), port.into());
    }
    if let Some(seconds) = variable(REQUEST_TIMEOUT) {
        let seconds: f64 = number(REQUEST_TIMEOUT, &seconds)?;
        let timeout = Duration::try_from_secs_f64(seconds)
            .map_err(|_| refused(REQUEST_TIMEOUT, &seconds.to_string(), "give seconds"))?;
        let text = lb_model::duration::format(timeout);
        service.insert("answer_timeout".to_owned(), text.into());
    }
    if let Some(items) = variable(CACHE_CAPACITY) {
        let items: u64 = number(CACHE_CAPACITY, &items)?;
        if items > 0 {
            let cache = serde_json::json!({ "items": items, "default_ttl": DEFAULT_TTL });
            service.insert("cache".to_owned(), cache);
        }
    }
    let settings = read(&service, REQUEST_TIMEOUT, "")?;
    config.services.insert(
        SERVICE.to_owned(),
        ServiceConfig {
            settings,
            members: Vec::new(),
        },
    );
    let mut route = Map::new();
    route.insert("service".to_owned(), SERVICE.into());
    config.routes.push(read(&route, HTTP, "")?);
    Ok(Some(config))
}

fn refused(name: &'static str, value: &str, advice: &str) -> ConfigError {
    ConfigError::Environment {
        name,
        value: value.to_owned(),
        advice: advice.to_owned(),
    }
}

fn read<T: settings::Settings>(
    table: &Map<String, Value>,
    name: &'static str,
    value: &str,
) -> Result<T, ConfigError> {
    settings::from_map(table).map_err(|error| refused(name, value, &error.to_string()))
}

fn number<T: std::str::FromStr>(name: &'static str, text: &str) -> Result<T, ConfigError> {
    text.trim()
        .parse()
        .map_err(|_| refused(name, text, "give a number"))
}

fn listen_address(text: &str) -> Result<SocketAddr, ConfigError> {
    if let Ok(port) = text.trim().parse::<u16>() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    text.trim()
        .parse()
        .map_err(|_| refused(HTTP, text, "give a port, or ADDRESS:PORT"))
}

fn web_socket(text: &str) -> String {
    let text = text.trim();
    if text.contains("://") {
        text.to_owned()
    } else if text.contains(':') {
        format!("ws://{text}/")
    } else {
        format!("ws://127.0.0.1:{text}/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&'static str, &str)]) -> Result<Option<Config>, ConfigError> {
        config(
            |name| {
                variables
                    .iter()
                    .find(|(given, _)| *given == name)
                    .map(|(_, value)| (*value).to_owned())
            },
            None,
        )
    }

    #[test]
    fn the_variables_make_a_configuration() {
        let config = given(&[
            (HTTP, "8080"),
            (WEB_SOCKET, "8081"),
            (TARGET_PORT, "3000"),
            (CACHE_CAPACITY, "500"),
            (REQUEST_TIMEOUT, "7"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "0.0.0.0:8080");
        let service = &config.services[SERVICE].settings;
        let pool = service.pool.as_ref().unwrap();
        assert_eq!(pool.to_string(), "ws://127.0.0.1:8081/");
        assert_eq!(service.port, Some(3000));
        assert_eq!(service.answer_timeout, Duration::from_secs(7));
        assert_eq!(service.cache.as_ref().unwrap().items, 500);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        assert_eq!(given(&[]).unwrap(), None);
        for (variables, words) in [
            (vec![(HTTP, "x")], "HOST_PORT_HTTP_BALANCER=x"),
            (vec![(HTTP, "80")], "HOST_PORT_WS_DEPLOYMENT_AGENT"),
            (
                vec![(HTTP, "80"), (WEB_SOCKET, "81"), (TARGET_PORT, "http")],
                "TARGET_PORT=http",
            ),
            (
                vec![(HTTP, "80"), (WEB_SOCKET, "81"), (REQUEST_TIMEOUT, "-1")],
                "REQUEST_TIMEOUT",
            ),
        ] {
            let error = given(&variables).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
