//! Heads of requests at random: what passes validation has one host, one route and one key. `fuzz/fuzz_targets/http.rs` looks
//! further, guided by coverage.

use std::{path::Path, sync::Arc};

use http::{Request, Version, header::HOST};
use lb_proxy::{
    cache::key,
    config::Config,
    http::{headers, validate},
    routes::Routes,
    service::Service,
};
use proptest::prelude::*;

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

/// A part of a target or a value, with what matters to a proxy more often than by chance.
fn text() -> impl Strategy<Value = String> {
    let special = prop_oneof![
        Just("a.test"),
        Just("A.TEST:80"),
        Just("http://"),
        Just("/api"),
        Just("/static"),
        Just("/.."),
        Just("%2e"),
        Just("//"),
        Just("@"),
        Just("host"),
        Just("close, "),
        Just("x-a"),
        Just("chunked"),
        Just("\t"),
        Just("[::1]"),
    ];
    let part = prop_oneof![special.prop_map(str::to_owned), "[ -~]{0,3}"];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("host"),
        Just("connection"),
        Just("transfer-encoding"),
        Just("cookie"),
        Just("te"),
        Just("upgrade"),
        Just("expect"),
        Just("x-a"),
        Just("keep-alive"),
        Just("content-length"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_head_that_passes_means_one_thing(
        version in 0_usize..3,
        target in text(),
        lines in prop::collection::vec((name(), text()), 0..6),
    ) {
        let config = Config::parse(ROUTES, Path::new("test")).unwrap();
        let service = Arc::new(Service::new(config.services["s"].settings.clone(), 1));
        let routes = Routes::new(&config, |_| Some(Arc::clone(&service)));
        let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][version];
        let mut request = Request::builder().version(version).uri(target);
        for (name, value) in lines {
            request = request.header(name, value);
        }
        let Ok(request) = request.body(()) else {
            return Ok(());
        };
        let (mut head, ()) = request.into_parts();
        let Ok(target) = validate::check(&head) else {
            return Ok(());
        };
        prop_assert!(!target.authority.contains(['/', '@', '?', '#', ' ', '\r', '\n']));
        prop_assert_eq!(&target.authority, &target.authority.to_ascii_lowercase());
        if let Some(route) = routes.find(target.host(), head.uri.path()) {
            prop_assert!(route.settings.host.is_none() || target.host().ends_with(".test"));
        }
        if let Some(key) = key(&head, &target, "http") {
            let start = format!("http://{}/", target.authority);
            prop_assert!(key.starts_with(&start), "{}", key);
        }
        let host = head.headers.get(HOST).cloned();
        headers::clean(&mut head.headers, false);
        for gone in ["connection", "keep-alive", "transfer-encoding", "upgrade", "te"] {
            prop_assert!(!head.headers.contains_key(gone), "{}", gone);
        }
        prop_assert_eq!(head.headers.get(HOST), host.as_ref());
        headers::join_cookies(&mut head.headers);
        prop_assert!(head.headers.get_all("cookie").iter().count() <= 1);
    }
}
