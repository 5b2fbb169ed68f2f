//! The cache: what later requests get.

use std::{
    collections::HashMap,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::support::{Answer, Instance, Proxy, Received, Reply, answer, get, get_with, wait_until};

const CACHE: &str = "cache = {}";

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// From an instance.
    Miss,
    /// From the cache.
    Hit,
    /// From the cache after an instance had confirmed it.
    Validated,
    /// From the cache although it was stale.
    Stale,
}
use Outcome::{Hit, Miss, Stale, Validated};

fn outcome(answer: &Answer) -> Outcome {
    let status = answer.header("cache-status").unwrap_or_default();
    assert!(status.starts_with("lb-proxy; "), "{answer:?}");
    match status {
        status if status.contains("fwd-status=304") => Validated,
        status if status.contains("hit; fwd=stale") => Stale,
        status if status.contains("hit") => Hit,
        _ => Miss,
    }
}

/// An instance with these headers, which answers 304 to a request with its tag or date.
fn with_headers(headers: &'static str) -> Instance {
    Instance::start(move |received| {
        let is_same = received.header("if-none-match").is_some()
            || received.header("if-modified-since").is_some();
        match is_same {
            true => {
                Reply::Write(format!("HTTP/1.1 304 Not Modified\r\n{headers}\r\n").into_bytes())
            }
            false => answer("200 OK", headers, "0123456789"),
        }
    })
}

fn date(offset: i64) -> String {
    let now = SystemTime::now();
    let time = match u64::try_from(offset) {
        Ok(later) => now + Duration::from_secs(later),
        Err(_) => now - Duration::from_secs(offset.unsigned_abs()),
    };
    httpdate::fmt_http_date(time)
}

#[test]
fn each_answer_is_kept_as_long_as_it_says() {
    let future =
        Box::leak(format!("Expires: {}\r\nDate: {}\r\n", date(60), date(0)).into_boxed_str());
    let past = Box::leak(format!("Expires: {}\r\n", date(-60)).into_boxed_str());
    let modified = Box::leak(format!("Last-Modified: {}\r\n", date(-1_000_000)).into_boxed_str());
    for (headers, expected) in [
        ("Cache-Control: max-age=60\r\n", Hit),
        ("Cache-Control: s-maxage=60, max-age=0\r\n", Hit),
        (&*future, Hit),
        ("", Miss),
        ("Cache-Control: no-store\r\n", Miss),
        ("Cache-Control: private, max-age=60\r\n", Miss),
        ("Cache-Control: s-maxage=0\r\n", Miss),
        ("Expires: 0\r\n", Miss),
        (&*past, Miss),
        // The heuristic of RFC 9111 section 4.2.2: a tenth of the age.
        (&*modified, Hit),
        ("Cache-Control: no-cache\r\nETag: \"a\"\r\n", Validated),
        (
            "Cache-Control: no-cache=\"x-a\", max-age=60\r\nX-A: 1\r\n",
            Miss,
        ),
        ("Cache-Control: max-age=60\r\nAge: 100\r\n", Miss),
        ("Cache-Control: max-age=60\r\nAge: 10\r\n", Hit),
        ("Cache-Control: max-age=0\r\nETag: \"a\"\r\n", Validated),
        ("Cache-Control: max-age=60\r\nVary: *\r\n", Miss),
        ("Cache-Control: max-age=60\r\nSet-Cookie: a=1\r\n", Miss),
    ] {
        let instance = with_headers(headers);
        let proxy = Proxy::to(&[instance.address], CACHE, "");
        assert_eq!(outcome(&proxy.ask(&get("/"))), Miss, "{headers}");
        let second = proxy.ask(&get("/"));
        assert_eq!((second.status, second.text().as_str()), (200, "0123456789"));
        assert_eq!(outcome(&second), expected, "{headers}");
        let requests = if expected == Hit { 1 } else { 2 };
        assert_eq!(instance.count(), requests, "{headers}");
        if expected == Hit {
            let age: u64 = second.header("age").unwrap().parse().unwrap();
            let upstream = if headers.contains("Age: 10") { 10 } else { 0 };
            assert!((upstream..upstream + 5).contains(&age), "{headers}: {age}");
        }
    }
}

#[test]
fn requests_decide_too() {
    let fresh = "Cache-Control: max-age=60\r\n";
    let public = "Cache-Control: public, max-age=60\r\n";
    for (headers, request, expected) in [
        (fresh, "Cache-Control: no-cache\r\n", Miss),
        (fresh, "Cache-Control: max-age=0\r\n", Miss),
        (fresh, "Cache-Control: no-store\r\n", Miss),
        (fresh, "Pragma: no-cache\r\n", Miss),
        (fresh, "Cookie: a=1\r\n", Hit),
        (public, "Authorization: x\r\n", Hit),
    ] {
        let instance = with_headers(headers);
        let proxy = Proxy::to(&[instance.address], CACHE, "");
        proxy.ask(&get("/"));
        thread::sleep(Duration::from_millis(1_100));
        let second = proxy.ask(&get_with("/", request));
        assert_eq!(outcome(&second), expected, "{request}");
    }
    // What was asked for with credentials is stored only if the answer is for everybody.
    for (headers, expected) in [(fresh, Miss), (public, Hit)] {
        let instance = with_headers(headers);
        let proxy = Proxy::to(&[instance.address], CACHE, "");
        let request = get_with("/", "Authorization: x\r\n");
        proxy.ask(&request);
        assert_eq!(outcome(&proxy.ask(&request)), expected, "{headers}");
    }
    // What must not be stored is not.
    let instance = with_headers(fresh);
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    proxy.ask(&get_with("/", "Cache-Control: no-store\r\n"));
    assert_eq!(outcome(&proxy.ask(&get("/"))), Miss);
}

#[test]
fn only_if_cached_is_never_forwarded() {
    let instance = with_headers("Cache-Control: max-age=60\r\n");
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let request = get_with("/", "Cache-Control: only-if-cached\r\n");
    assert_eq!(proxy.ask(&request).status, 504);
    assert_eq!(instance.count(), 0);
    proxy.ask(&get("/"));
    assert_eq!(outcome(&proxy.ask(&request)), Hit);
}

#[test]
fn a_stale_answer_is_served_while_it_is_refreshed() {
    let number = AtomicUsize::new(0);
    let instance = Instance::start(move |_| {
        let body = number.fetch_add(1, SeqCst).to_string();
        answer(
            "200 OK",
            "Cache-Control: max-age=1, stale-while-revalidate=30\r\n",
            &body,
        )
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    assert_eq!(proxy.ask(&get("/")).text(), "0");
    thread::sleep(Duration::from_millis(2_100));
    let stale = proxy.ask(&get("/"));
    assert_eq!((outcome(&stale), stale.text().as_str()), (Stale, "0"));
    wait_until("it is refreshed", || instance.count() == 2);
    wait_until("the new one is served", || {
        let answer = proxy.ask(&get("/"));
        outcome(&answer) == Hit && answer.text() == "1"
    });
    assert_eq!(instance.count(), 2);
}

#[test]
fn a_stale_answer_is_served_if_the_instances_fail_and_it_allows_that() {
    for (headers, service, expected) in [
        (
            "Cache-Control: max-age=1, stale-if-error=30\r\n",
            "cache = {}",
            Some(Stale),
        ),
        (
            "Cache-Control: max-age=1\r\n",
            "cache = { stale_if_error = \"30s\" }",
            Some(Stale),
        ),
        (
            "Cache-Control: max-age=1\r\nETag: \"a\"\r\n",
            "cache = { stale_if_error = \"30s\" }",
            Some(Stale),
        ),
        (
            "Cache-Control: max-age=1, must-revalidate\r\n",
            "cache = { stale_if_error = \"30s\" }",
            None,
        ),
        ("Cache-Control: max-age=1\r\n", "cache = {}", None),
    ] {
        let number = AtomicUsize::new(0);
        let instance = Instance::start(move |_| match number.fetch_add(1, SeqCst) {
            0 => answer("200 OK", headers, "fine"),
            1 => answer("503 Service Unavailable", "", "bad"),
            _ => Reply::WriteAndClose(Vec::new()),
        });
        let proxy = Proxy::to(&[instance.address], service, "");
        proxy.ask(&get("/"));
        thread::sleep(Duration::from_millis(2_100));
        for failure in [503, 502] {
            let second = proxy.ask(&get("/"));
            match expected {
                Some(expected) => {
                    assert_eq!(
                        (outcome(&second), second.text().as_str()),
                        (expected, "fine")
                    );
                }
                None => assert_eq!(second.status, failure, "{headers}"),
            }
        }
    }
}

#[test]
fn must_revalidate_forbids_stale_answers() {
    let instance =
        with_headers("Cache-Control: max-age=1, must-revalidate, stale-while-revalidate=30\r\n");
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    proxy.ask(&get("/"));
    thread::sleep(Duration::from_millis(2_100));
    assert_eq!(outcome(&proxy.ask(&get("/"))), Miss);
}

#[test]
fn each_language_has_its_answer() {
    let instance = Instance::start(|received| {
        let language = received
            .header("accept-language")
            .unwrap_or("none")
            .to_owned();
        answer(
            "200 OK",
            "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n",
            &language,
        )
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let ask =
        |language: &str| proxy.ask(&get_with("/", &format!("Accept-Language: {language}\r\n")));
    for language in ["de", "en", "fr"] {
        assert_eq!(
            (outcome(&ask(language)), ask(language).text().as_str()),
            (Miss, language)
        );
    }
    assert_eq!(
        (outcome(&ask("de")), ask("de").text().as_str()),
        (Hit, "de")
    );
    assert_eq!(proxy.ask(&get("/")).text(), "none");
    assert_eq!(instance.count(), 4);
}

#[test]
fn parts_of_a_stored_answer_are_served() {
    let instance = with_headers("Cache-Control: max-age=60\r\nETag: \"a\"\r\n");
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    // A part that comes first is passed on and stores nothing wrong.
    let first = proxy.ask(&get_with("/", "Range: bytes=0-1\r\n"));
    assert_eq!(first.status, 200, "the instance knows no ranges");
    proxy.ask(&get("/"));
    assert_eq!(instance.count(), 2);
    for (headers, status, body) in [
        ("Range: bytes=0-1\r\n", 206, "01"),
        ("Range: bytes=-3\r\n", 206, "789"),
        ("Range: bytes=10-\r\n", 416, ""),
        ("Range: bytes=0-1,3-4\r\n", 200, "0123456789"),
        ("Range: bytes=0-1\r\nIf-Range: \"b\"\r\n", 200, "0123456789"),
        ("If-None-Match: \"a\"\r\n", 304, ""),
        ("If-None-Match: \"b\"\r\n", 200, "0123456789"),
    ] {
        let part = proxy.ask(&get_with("/", headers));
        assert_eq!(
            (part.status, part.text().as_str()),
            (status, body),
            "{headers}"
        );
        assert_eq!(outcome(&part), Hit, "{headers}");
    }
    let head = proxy.ask("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(
        (outcome(&head), head.header("content-length")),
        (Hit, Some("10"))
    );
    assert_eq!(instance.count(), 2);
}

#[test]
fn conditions_and_parts_that_come_first_are_passed_on() {
    let instance = Instance::start(|received| {
        if received.header("range").is_some() {
            let headers = "Cache-Control: max-age=60\r\nContent-Range: bytes 0-1/10\r\n";
            return answer("206 Partial Content", headers, "01");
        }
        match received.header("if-none-match") {
            Some(_) => Reply::Write(
                b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n\r\n"
                    .to_vec(),
            ),
            None => answer(
                "200 OK",
                "Cache-Control: max-age=60\r\nETag: \"a\"\r\n",
                "0123456789",
            ),
        }
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    assert_eq!(
        proxy.ask(&get_with("/", "If-None-Match: \"a\"\r\n")).status,
        304
    );
    assert_eq!(
        proxy.ask(&get_with("/", "Range: bytes=0-1\r\n")).status,
        206
    );
    let head = proxy.ask("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(outcome(&head), Miss);
    let whole = proxy.ask(&get("/"));
    assert_eq!(
        (outcome(&whole), whole.text().as_str()),
        (Miss, "0123456789")
    );
}

#[test]
fn an_unsafe_request_that_succeeds_invalidates() {
    let instance = Instance::start(|received| match received.path() {
        "/fails" => answer("403 Forbidden", "", ""),
        "/other" => answer(
            "200 OK",
            "Location: /\r\nContent-Location: http://evil/x\r\n",
            "",
        ),
        _ => answer("200 OK", "Cache-Control: max-age=60\r\n", ""),
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let change = |method: &str, path: &str| {
        proxy.ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: A.test\r\nContent-Length: 0\r\n\r\n"
        ))
    };
    for (method, path, expected) in [
        ("POST", "/", Miss),
        ("DELETE", "/", Miss),
        ("PUT", "/", Miss),
        ("POST", "/fails", Hit),
        ("POST", "/other", Miss),
        ("OPTIONS", "/", Hit),
    ] {
        proxy.ask(&get("/"));
        assert_eq!(outcome(&proxy.ask(&get("/"))), Hit);
        change(method, path);
        assert_eq!(outcome(&proxy.ask(&get("/"))), expected, "{method} {path}");
    }
}

#[test]
fn the_key_is_the_whole_uri() {
    let instance = Instance::start(|received| {
        let body = format!("{}{}", received.header("host").unwrap(), received.path());
        answer("200 OK", "Cache-Control: max-age=60\r\n", &body)
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let ask =
        |host: &str, path: &str| proxy.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert_eq!(ask("a.test", "/x?y").text(), "a.test/x?y");
    for (host, path) in [
        ("b.test", "/x?y"),
        ("a.test", "/x"),
        ("a.test", "/x?z"),
        ("a.test:81", "/x?y"),
    ] {
        assert_eq!(ask(host, path).text(), format!("{host}{path}"));
    }
    // Upper case is the same host, and so is an absolute target.
    assert_eq!(outcome(&ask("A.TEST", "/x?y")), Hit);
    assert_eq!(outcome(&ask("c.test", "http://a.test/x?y")), Hit);
    assert_eq!(instance.count(), 5);
}

#[test]
fn what_a_trusted_proxy_says_is_part_of_the_key() {
    let instance = Instance::start(|received| {
        let scheme = received.header("x-forwarded-proto").unwrap().to_owned();
        let host = received.header("x-forwarded-host").unwrap().to_owned();
        answer(
            "200 OK",
            "Cache-Control: max-age=60\r\n",
            &format!("{scheme}://{host}"),
        )
    });
    let text = crate::support::configuration(&[instance.address], CACHE, "");
    let proxy = Proxy::start(&format!("trusted_proxies = [\"127.0.0.1\"]\n{text}"));
    for _ in 0..2 {
        for (headers, expected) in [
            ("", "http://a.test"),
            ("X-Forwarded-Proto: https\r\n", "https://a.test"),
            ("X-Forwarded-Host: b.test\r\n", "http://b.test"),
        ] {
            assert_eq!(proxy.ask(&get_with("/", headers)).text(), expected);
        }
    }
    // The host that is not in the key was asked for twice.
    assert_eq!(instance.count(), 4);
}

fn at_once(count: usize, ask: impl Fn() -> Answer + Sync) -> (Vec<Answer>, Duration) {
    let barrier = Barrier::new(count);
    let start = Instant::now();
    let answers = thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    ask()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    (answers, start.elapsed())
}

fn slow(headers: &'static str) -> impl Fn(&Received) -> Reply + Send + Sync {
    move |_| {
        thread::sleep(Duration::from_millis(300));
        answer("200 OK", headers, "slow")
    }
}

#[test]
fn one_of_many_fetches_what_all_want() {
    let instance = Instance::start(slow("Cache-Control: max-age=60\r\n"));
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let (answers, _) = at_once(20, || proxy.ask(&get("/")));
    assert!(answers.iter().all(|answer| answer.text() == "slow"));
    assert_eq!(instance.count(), 1);
}

#[test]
fn requests_for_what_cannot_be_stored_do_not_queue() {
    let instance = Instance::start(slow("Cache-Control: no-store\r\n"));
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    // The first time nobody knows: all wait for one answer, and not for each other's.
    let (_, first) = at_once(20, || proxy.ask(&get("/")));
    assert!(first < Duration::from_millis(300 * 10), "{first:?}");
    assert_eq!(instance.count(), 20);
    // From then on nobody waits.
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (_, _) = at_once(20, || {
        most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
        let answer = proxy.ask(&get("/"));
        open.fetch_sub(1, SeqCst);
        answer
    });
    assert_eq!(instance.count(), 40);
}

#[test]
fn who_waits_goes_on_when_the_one_who_fetches_leaves() {
    let instance = Instance::start(slow("Cache-Control: max-age=60\r\n"));
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let mut first = proxy.client();
    first.send(get("/"));
    wait_until("it is being fetched", || instance.count() == 1);
    thread::scope(|scope| {
        let second = scope.spawn(|| proxy.ask(&get("/")));
        thread::sleep(Duration::from_millis(50));
        drop(first);
        assert_eq!(second.join().unwrap().text(), "slow");
    });
}

#[test]
fn an_answer_that_is_cut_or_too_large_is_not_stored() {
    let instance = Instance::start(|received| {
        match received.path() {
        "/cut" => Reply::WriteAndClose(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nCache-Control: max-age=60\r\n\r\nabc".to_vec(),
        ),
        "/chunked" => Reply::Write(
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
                "a".repeat(2_000)
            )
            .into_bytes(),
        ),
        _ => answer("200 OK", "Cache-Control: max-age=60\r\n", &"a".repeat(2_000)),
    }
    });
    let proxy = Proxy::to(&[instance.address], "cache = { max_object = 1_000 }", "");
    for path in ["/cut", "/chunked", "/large"] {
        proxy.ask(&get(path));
        assert_eq!(outcome(&proxy.ask(&get(path))), Miss, "{path}");
    }
}

#[test]
fn the_capacity_holds() {
    let instance = Instance::start(|_| {
        answer(
            "200 OK",
            "Cache-Control: max-age=60\r\n",
            &"a".repeat(1_000),
        )
    });
    for (settings, most) in [
        ("items = 10", (10, u64::MAX)),
        ("bytes = 100_000", (100, 100_000)),
    ] {
        let proxy = Proxy::to(
            &[instance.address],
            &format!("cache = {{ {settings} }}"),
            "",
        );
        let mut client = proxy.client();
        let used = || proxy.service("s").cache.load_full().unwrap().used();
        for number in 0..200 {
            client.ask(&get(&format!("/{number}")));
            // Asked for again and again, it stays.
            client.ask(&get("/0"));
            assert!(
                used().0 <= most.0 && used().1 <= most.1,
                "{settings}: {:?}",
                used()
            );
        }
        assert!(used().0 >= 10, "{settings}: {:?}", used());
        assert_eq!(outcome(&client.ask(&get("/0"))), Hit);
        assert_eq!(outcome(&client.ask(&get("/1"))), Miss);
    }
}

#[test]
fn static_answers_without_a_lifetime_get_one() {
    let types: HashMap<&str, &str> = [
        ("/css", "text/css"),
        ("/png", "image/png"),
        ("/html", "text/html"),
    ]
    .into();
    let types = Mutex::new(types);
    let instance = Instance::start(move |received| {
        let kind = types.lock().unwrap()[received.path()];
        answer("200 OK", &format!("Content-Type: {kind}\r\n"), "x")
    });
    let proxy = Proxy::to(&[instance.address], "cache = { default_ttl = \"1m\" }", "");
    for (path, expected) in [("/css", Hit), ("/png", Hit), ("/html", Miss)] {
        proxy.ask(&get(path));
        let second = proxy.ask(&get(path));
        assert_eq!(outcome(&second), expected, "{path}");
    }
}

#[test]
fn answers_can_be_purged_and_expire() {
    let instance = Instance::start(|received| {
        let age = if received.path() == "/short" { 1 } else { 60 };
        answer("200 OK", &format!("Cache-Control: max-age={age}\r\n"), "x")
    });
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    for path in ["/a/1", "/a/2", "/b", "/short"] {
        proxy.ask(&get(path));
    }
    let cache = proxy.service("s").cache.load_full().unwrap();
    assert_eq!(cache.used().0, 4);
    assert_eq!(cache.purge("http://a.test/b"), 1);
    assert_eq!(cache.purge_prefix("http://a.test/a/"), 2);
    thread::sleep(Duration::from_millis(2_100));
    cache.sweep();
    assert_eq!(cache.used(), (0, 0));
    assert_eq!(outcome(&proxy.ask(&get("/a/1"))), Miss);
}

#[test]
fn a_hit_leaves_the_connection_clean() {
    let instance = with_headers("Cache-Control: max-age=60\r\n");
    let proxy = Proxy::to(&[instance.address], CACHE, "");
    let mut client = proxy.client();
    client.ask(&get("/"));
    // A request with a body is never answered from the cache.
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.answer(false).status, 200);
    assert_eq!(instance.count(), 2);
    assert_eq!(outcome(&client.ask(&get("/"))), Hit);
}
