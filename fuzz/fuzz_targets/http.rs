//! The head of a request, from validation to the cache's key: cargo +nightly fuzz run http
#![no_main]

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use http::{Request, Version, header::HOST};
use libfuzzer_sys::fuzz_target;
use lb_proxy::{
    cache::key,
    config::Config,
    http::{headers, validate},
    routes::Routes,
    service::Service,
};

const ROUTES: &str = r#"
[[service]]
name = "s"
[[route]]
service = "s"
host = "a.test"
path = "/api"
[[route]]
service = "s"
host = "*.test"
[[route]]
service = "s"
path = "/static"
"#;

fn routes() -> &'static Routes {
    static MADE: OnceLock<Routes> = OnceLock::new();
    MADE.get_or_init(|| {
        let config = Config::parse(ROUTES, Path::new("fuzz")).expect("a configuration");
        let service = Arc::new(Service::new(config.services["s"].settings.clone(), 1));
        Routes::new(&config, |_| Some(Arc::clone(&service)))
    })
}

// The first line is the target, each other one a header; the first byte chooses the version.
fuzz_target!(|data: &[u8]| {
    let Some((version, rest)) = data.split_first() else {
        return;
    };
    let mut lines = rest.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut request = Request::builder()
        .version([Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][usize::from(version % 3)])
        .uri(target);
    for line in lines {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
        }
    }
    let Ok(request) = request.body(()) else {
        return;
    };
    let (mut head, ()) = request.into_parts();
    let Ok(target) = validate::check(&head) else {
        return;
    };
    assert!(!target.authority.contains(['/', '@', '?', '#', ' ', '\r', '\n']));
    assert_eq!(target.authority, target.authority.to_ascii_lowercase());
    let path = head.uri.path().to_owned();
    if let Some(route) = routes().find(target.host(), &path) {
        assert!(route.settings.host.is_none() || target.host().ends_with(".test"));
    }
    if let Some(key) = key(&head, &target, "http") {
        assert!(key.starts_with(&format!("http://{}/", target.authority)) || path == "*", "{key}");
    }
    let host = head.headers.get(HOST).cloned();
    headers::clean(&mut head.headers, false);
    for gone in ["connection", "keep-alive", "transfer-encoding", "upgrade", "te", "proxy-connection"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers.get(HOST), host.as_ref());
    headers::join_cookies(&mut head.headers);
    assert!(head.headers.get_all("cookie").iter().count() <= 1);
});
