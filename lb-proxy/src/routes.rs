//! Which service a request is for.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use crate::{
    config::{Config, RouteSettings},
    service::Service,
};

/// A route.
#[derive(Debug)]
pub struct Route {
    /// Its settings.
    pub settings: RouteSettings,
    /// Its service.
    pub service: Arc<Service>,
}

/// Routes of one host, the longest path first.
type Paths = Vec<Arc<Route>>;

/// All routes. An exact host comes before `*.` names, a longer `*.` name before a shorter one, and any of these before
/// routes without a host; within a host the longest path counts. A host without a matching path falls through.
#[derive(Debug, Default)]
pub struct Routes {
    exact: HashMap<String, Paths>,
    /// By the part after `*`, such as `.example.com`, the longest first.
    below: Vec<(String, Paths)>,
    any: Paths,
}

impl Routes {
    /// The routes of a configuration, whose services are these.
    #[must_use]
    pub fn new(config: &Config, service: impl Fn(&str) -> Option<Arc<Service>>) -> Self {
        let mut routes = Routes::default();
        let mut below: HashMap<String, Paths> = HashMap::new();
        for settings in &config.routes {
            let Some(service) = service(&settings.service) else {
                continue;
            };
            let host = settings.host.as_ref().map(|host| host.to_ascii_lowercase());
            let route = Arc::new(Route {
                settings: settings.clone(),
                service,
            });
            match host.as_deref() {
                None => routes.any.push(route),
                Some(host) => match host.strip_prefix('*') {
                    Some(suffix) => below.entry(suffix.to_owned()).or_default().push(route),
                    None => routes.exact.entry(host.to_owned()).or_default().push(route),
                },
            }
        }
        routes.below = below.into_iter().collect();
        routes
            .below
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let all = routes
            .exact
            .values_mut()
            .chain(routes.below.iter_mut().map(|(_, paths)| paths))
            .chain([&mut routes.any]);
        for paths in all {
            paths.sort_by_key(|route| std::cmp::Reverse(route.settings.path.len()));
        }
        routes
    }

    /// Returns the route of a request. `host` is in lower case and has no port.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let path = &*normalised(path);
        let exact = self.exact.get(host);
        let below = self
            .below
            .iter()
            .filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(suffix.as_str()))
            .map(|(_, paths)| paths);
        exact
            .into_iter()
            .chain(below)
            .chain([&self.any])
            .find_map(|paths| {
                paths
                    .iter()
                    .find(|route| is_below(path, &route.settings.path))
            })
    }
}

/// Whether a path begins with the segments of a prefix.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || prefix.is_empty()
}

/// Returns a path as an instance will probably understand it: without `.` and `..`, so that `/public/../admin` is routed
/// as `/admin`. (RFC 3986 section 5.2.4; the request goes on as it is.)
fn normalised(path: &str) -> Cow<'_, str> {
    if !path.contains("/.") && !path.contains("%2") {
        return Cow::Borrowed(path);
    }
    let decoded = path
        .replace("%2e", ".")
        .replace("%2E", ".")
        .replace("%2f", "/")
        .replace("%2F", "/");
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in decoded.split('/').skip(1) {
        ends_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if ends_open && !kept.is_empty() {
        "/"
    } else {
        ""
    };
    Cow::Owned(format!("/{}{end}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn routes(lines: &[(&str, &str)]) -> Routes {
        let mut text = String::new();
        for (position, (host, path)) in lines.iter().enumerate() {
            text.push_str(&format!("[[service]]\nname = \"{position}\"\n[[route]]\nservice = \"{position}\"\npath = \"{path}\"\n"));
            if !host.is_empty() {
                text.push_str(&format!("host = \"{host}\"\n"));
            }
        }
        let config = Config::parse(&text, Path::new("f")).unwrap();
        let services: HashMap<String, Arc<Service>> = config
            .services
            .iter()
            .map(|(name, service)| {
                let service = Service::new(service.settings.clone(), 1);
                (name.clone(), Arc::new(service))
            })
            .collect();
        Routes::new(&config, |name| services.get(name).cloned())
    }

    #[test]
    fn the_most_exact_route_is_found() {
        let routes = routes(&[
            ("", "/"),
            ("A.test", "/"),
            ("a.test", "/api"),
            ("*.test", "/"),
            ("*.b.test", "/"),
            ("c.test", "/only"),
            ("", "/static/"),
        ]);
        for (host, path, expected) in [
            ("a.test", "/", "1"),
            ("a.test", "/api", "2"),
            ("a.test", "/api/x", "2"),
            ("a.test", "/apis", "1"),
            ("a.test", "/x/../api", "2"),
            ("a.test", "/api/%2e%2E/x", "1"),
            ("a.test", "/api/..%2Fx", "1"),
            ("x.test", "/", "3"),
            ("x.b.test", "/", "4"),
            ("b.test", "/", "3"),
            ("c.test", "/only/x", "5"),
            ("c.test", "/x", "3"),
            ("test", "/", "0"),
            ("", "/", "0"),
            ("", "/static", "6"),
            ("", "/static/x", "6"),
            ("", "*", "0"),
        ] {
            let route = routes.find(host, path).unwrap();
            assert_eq!(route.service.name, expected, "{host}{path}");
        }
    }

    #[test]
    fn a_request_may_have_no_route() {
        let routes = routes(&[("a.test", "/api")]);
        assert!(routes.find("a.test", "/").is_none());
        assert!(routes.find("b.test", "/api").is_none());
    }
}
