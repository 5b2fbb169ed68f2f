//! Which instance gets a request, and what happens when it fails.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use lb_proxy::service::{Fault, Member, State};

use crate::support::{Instance, Proxy, Reply, answer, configuration, get, get_with, wait_until};

fn refusing() -> SocketAddr {
    // Bound and not listening: connections are refused, and nobody else gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

#[test]
fn turns_are_equal_to_the_request() {
    let instances: Vec<Instance> = (0..3).map(|_| Instance::fine()).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|one| one.address).collect();
    // Two threads: the turns are those of the service, not of a thread.
    let text = configuration(&addresses, "choice = \"round-robin\"", "");
    let proxy = Proxy::start_with(&text, 2);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..50 {
                    assert_eq!(client.ask(&get("/")).status, 200);
                }
            });
        }
    });
    let counts: Vec<usize> = instances.iter().map(Instance::count).collect();
    assert_eq!(counts, [100; 3]);
}

#[test]
fn turns_stay_equal_while_one_is_relaunched() {
    let instances: Vec<Instance> = (0..4).map(|_| Instance::fine()).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|one| one.address).collect();
    let settings = "choice = \"round-robin\"\nslow_start = \"0s\"";
    let proxy = Proxy::start_with(&configuration(&addresses, settings, ""), 2);
    let members = |away: Option<usize>| {
        let one = |(number, address): (usize, &SocketAddr)| Member {
            address: *address,
            weight: 100,
            state: match away == Some(number) {
                true => State::Down,
                false => State::Up,
            },
        };
        addresses.iter().enumerate().map(one).collect::<Vec<_>>()
    };
    let mut client = proxy.client();
    let mut ask = |times: usize| {
        let before: Vec<usize> = instances.iter().map(Instance::count).collect();
        for _ in 0..times {
            assert_eq!(client.ask(&get("/")).status, 200);
        }
        let counts = instances.iter().zip(before);
        counts
            .map(|(one, before)| one.count() - before)
            .collect::<Vec<usize>>()
    };
    assert_eq!(ask(40), [10; 4]);
    for away in 0..3 {
        // Somewhere in a round. Who was about to have its turn has it first, so one round may not be equal.
        ask(1 + away);
        proxy.service("s").update(members(Some(away)));
        let mut first = ask(3);
        let mut counts = ask(30);
        assert_eq!((first.remove(away), counts.remove(away)), (0, 0));
        assert!(first.iter().all(|count| *count <= 2), "{first:?}");
        assert_eq!(counts, [10; 3]);
        ask(2);
        proxy.service("s").update(members(None));
        let first = ask(4);
        assert!(first.iter().all(|count| *count <= 2), "{first:?}");
        assert_eq!(ask(40), [10; 4]);
    }
}

#[test]
fn a_relaunched_instance_soon_gets_its_share() {
    // The third one is killed, refuses for a while, and its first answers after that are slow.
    let fine: Vec<Instance> = (0..2).map(|_| Instance::fine()).collect();
    let slow = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&slow);
    let third = Instance::start(move |_| {
        let is_cold = left
            .fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1))
            .is_ok();
        if is_cold {
            thread::sleep(Duration::from_millis(500));
        }
        answer("200 OK", "", "fine")
    });
    let addresses = [fine[0].address, fine[1].address, third.address];
    let proxy = Proxy::to(&addresses, "slow_start = \"1s\"", "");
    let service = proxy.service("s");
    let mut client = proxy.client();
    // About 20 requests a second. Nobody calls the upkeep in a test but the test.
    let mut ask = |times: usize| {
        let before = third.count();
        for _ in 0..times {
            assert_eq!(client.ask(&get("/")).status, 200);
            thread::sleep(Duration::from_millis(50));
        }
        service.upkeep();
        third.count() - before
    };
    // On a machine that has stopped for a moment an answer was slow, which costs its instance some seconds.
    let start = Instant::now();
    while ask(30) < 3 {
        assert!(start.elapsed() < Duration::from_secs(25));
    }
    let members = |state| {
        let states = [State::Up, State::Up, state];
        let each = addresses.iter().zip(states);
        let each = each.map(|(address, state)| Member {
            address: *address,
            weight: 100,
            state,
        });
        each.collect::<Vec<_>>()
    };
    let entry = service
        .entries()
        .into_iter()
        .find(|entry| entry.member.address == third.address);
    for _ in 0..3 {
        service.note_failure(&entry.as_ref().unwrap().instance, Fault::Connect);
    }
    service.update(members(State::Down));
    assert_eq!(ask(10), 0);
    slow.store(1, SeqCst);
    service.update(members(State::Up));
    // A third of the requests would be its share. A slow answer among quick ones costs it a few seconds.
    let start = Instant::now();
    while ask(20) < 4 || slow.load(SeqCst) > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(25),
            "{:?}",
            service.entries()
        );
    }
}

#[test]
fn a_refused_connection_is_no_failed_request() {
    let fine = Instance::fine();
    let addresses = [refusing(), fine.address];
    let proxy = Proxy::to(
        &addresses,
        "choice = \"round-robin\"\nretry_budget = 100",
        "",
    );
    let mut client = proxy.client();
    for number in 0..20 {
        // Nothing was sent, so also a request with a body goes to another instance.
        let request = match number % 2 {
            0 => get("/"),
            _ => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        };
        assert_eq!(client.ask(&request).status, 200);
    }
    assert_eq!(fine.count(), 20);
}

#[test]
fn a_request_that_may_have_arrived_is_repeated_only_if_that_does_no_harm() {
    for (request, status) in [
        (get("/"), 200),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            200,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(),
            502,
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            502,
        ),
    ] {
        let bad = Instance::start(|_| Reply::WriteAndClose(Vec::new()));
        let fine = Instance::fine();
        let proxy = Proxy::to(
            &[bad.address, fine.address],
            "choice = \"round-robin\"\neject_after = 0",
            "",
        );
        let mut statuses: Vec<u16> = (0..2).map(|_| proxy.ask(&request).status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, status], "{request}");
    }
}

#[test]
fn retries_have_a_budget() {
    let bad: Vec<Instance> = (0..3)
        .map(|_| Instance::start(|_| Reply::WriteAndClose(Vec::new())))
        .collect();
    let addresses: Vec<SocketAddr> = bad.iter().map(|one| one.address).collect();
    let proxy = Proxy::to(&addresses, "eject_after = 0\nretry_budget = 10", "");
    for _ in 0..100 {
        assert_eq!(proxy.ask(&get("/")).status, 502);
    }
    let sent: usize = bad.iter().map(Instance::count).sum();
    // 100 requests, and 10 retries; the periods of the budget are 10 s.
    assert!((110..=130).contains(&sent), "{sent}");
}

#[test]
fn an_instance_that_fails_is_left_out_and_comes_back() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let broken = Arc::clone(&is_broken);
    let bad = Instance::start(move |_| match broken.load(SeqCst) {
        true => answer("500 Internal Server Error", "", ""),
        false => answer("200 OK", "", ""),
    });
    let fine: Vec<Instance> = (0..2).map(|_| Instance::fine()).collect();
    let addresses = [bad.address, fine[0].address, fine[1].address];
    let settings =
        "choice = \"round-robin\"\neject_after = 3\neject_for = \"300ms\"\nslow_start = \"0s\"";
    let proxy = Proxy::to(&addresses, settings, "");
    let failed = (0..90)
        .filter(|_| proxy.ask(&get("/")).status == 500)
        .count();
    assert_eq!(failed, 3);
    is_broken.store(false, SeqCst);
    thread::sleep(Duration::from_millis(350));
    let service = proxy.service("s");
    service.upkeep();
    let before = bad.count();
    for _ in 0..9 {
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }
    assert_eq!(bad.count() - before, 3);
}

#[test]
fn a_busy_instance_gets_less() {
    let slow = Instance::start(|_| {
        thread::sleep(Duration::from_millis(100));
        answer("200 OK", "", "")
    });
    let fine = Instance::fine();
    let proxy = Proxy::to(&[slow.address, fine.address], "", "");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..50 {
                    assert_eq!(client.ask(&get("/")).status, 200);
                }
            });
        }
    });
    assert!(slow.count() < 40, "{} of 200", slow.count());
}

#[test]
fn the_same_key_goes_to_the_same_instance() {
    let instances: Vec<Instance> = (0..4).map(|_| Instance::fine()).collect();
    let addresses: Vec<SocketAddr> = instances.iter().map(|one| one.address).collect();
    for (on, header) in [
        ("header:x-user", "X-User: "),
        ("cookie:id", "Cookie: a=b; id="),
    ] {
        let settings = format!("choice = \"hash\"\nhash_on = \"{on}\"");
        let proxy = Proxy::to(&addresses, &settings, "");
        for user in 0..20 {
            let before: Vec<usize> = instances.iter().map(Instance::count).collect();
            for _ in 0..3 {
                let request = get_with("/", &format!("{header}{user}\r\n"));
                assert_eq!(proxy.ask(&request).status, 200);
            }
            let received = instances
                .iter()
                .zip(before)
                .map(|(one, before)| one.count() - before);
            assert_eq!(
                received.filter(|count| *count == 3).count(),
                1,
                "{on} {user}"
            );
        }
    }
}

#[test]
fn who_drains_keeps_what_it_has_and_gets_nothing_new() {
    let slow = Instance::start(|_| {
        thread::sleep(Duration::from_millis(400));
        answer("200 OK", "", "old")
    });
    let fine = Instance::fine();
    let proxy = Proxy::to(&[slow.address], "", "");
    let mut client = proxy.client();
    client.send(get("/"));
    wait_until("it has the request", || slow.count() == 1);
    let member = |address, state| Member {
        address,
        weight: 100,
        state,
    };
    proxy.service("s").update([
        member(slow.address, State::Draining),
        member(fine.address, State::Up),
    ]);
    assert_eq!(proxy.ask(&get("/")).text(), "fine");
    assert_eq!(client.answer(false).text(), "old");
    // Also one that is gone answers what it has.
    client.send(get("/"));
    assert_eq!(client.answer(false).text(), "fine");
    proxy.service("s").update([]);
    assert_eq!(proxy.ask(&get("/")).status, 503);
}

#[test]
fn an_instance_that_does_not_accept_is_given_up_in_time() {
    // Its queue is full: further connections are not even answered.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    listener.listen(0).unwrap();
    let listener: TcpListener = listener.into();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..8 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    let proxy = Proxy::to(&[address], "connect_timeout = \"100ms\"", "");
    assert_eq!(proxy.ask(&get("/")).status, 504);
}

#[test]
fn a_reload_changes_routes_and_instances_and_loses_nothing() {
    let old = Instance::start(|_| answer("200 OK", "", "old"));
    let new = Instance::start(|_| answer("200 OK", "", "new"));
    let proxy = Proxy::to(&[old.address], "", "");
    let mut client = proxy.client();
    assert_eq!(client.ask(&get("/")).text(), "old");
    let text = configuration(&[new.address], "choice = \"random\"", "");
    let config = lb_proxy::config::Config::parse(&text, std::path::Path::new("test")).unwrap();
    proxy.server.reload(config).unwrap();
    // The connection of the client goes on.
    assert_eq!(client.ask(&get("/")).text(), "new");
    // What is wrong changes nothing.
    let text = configuration(
        &[old.address],
        "",
        "certificates = [{ certificate = \"/nowhere\", key = \"/nowhere\" }]",
    );
    let config = lb_proxy::config::Config::parse(&text, std::path::Path::new("test")).unwrap();
    let error = proxy.server.reload(config).unwrap_err().to_string();
    assert!(error.contains("/nowhere"), "{error}");
    assert_eq!(client.ask(&get("/")).text(), "new");
}
