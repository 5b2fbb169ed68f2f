//! Health checks of instances.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use lb_proxy::service::{Probed, Service, State};

use crate::support::{
    Control, Instance, PATIENCE, Proxy, Received, Reply, answer, configuration, get, wait_until,
};

const CHECK: &str = "check = { kind = \"http\", path = \"/up\", interval = \"100ms\", unhealthy_threshold = 2 }\n\
                     choice = \"round-robin\"";

/// An instance that answers `/up` as long as it is well, and everything else always.
fn checked_instance() -> (Instance, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let own = Arc::clone(&is_well);
    let instance = Instance::start(move |request: &Received| -> Reply {
        if request.path() == "/up" && !own.load(SeqCst) {
            return answer("503 Service Unavailable", "", "sick");
        }
        answer("200 OK", "", "fine")
    });
    (instance, is_well)
}

/// The states of a service's instances by its health check, in the order of the addresses.
fn states(service: &Service) -> Vec<Option<State>> {
    let entries = service.entries();
    let states = entries
        .iter()
        .map(|entry| entry.health.as_ref().map(|health| health.state));
    states.collect()
}

fn state(service: &Service, address: SocketAddr) -> Option<State> {
    let entries = service.entries();
    let entry = entries
        .iter()
        .find(|entry| entry.instance.address == address)?;
    entry.health.as_ref().map(|health| health.state)
}

/// Requests of clients that an instance got.
fn served(instance: &Instance) -> usize {
    let received = instance.received();
    received.iter().filter(|one| one.path() != "/up").count()
}

#[test]
fn an_instance_that_is_down_gets_no_requests_until_it_is_up_again() {
    let ((one, one_is_well), (two, two_is_well)) = (checked_instance(), checked_instance());
    let text = configuration(&[one.address, two.address], CHECK, "");
    let proxy = Proxy::start(&text);
    let service = proxy.service("s");
    // Instances are up before their first result.
    assert_eq!(proxy.ask(&get("/")).status, 200);
    assert_eq!(states(&service), [None, None]);
    let _control = Control::over(&proxy);
    wait_until("both are up", || states(&service) == [Some(State::Up); 2]);

    one_is_well.store(false, SeqCst);
    wait_until("it is down", || {
        state(&service, one.address) == Some(State::Down)
    });
    let before = (served(&one), served(&two));
    for _ in 0..10 {
        assert_eq!(proxy.ask(&get("/")).text(), "fine");
    }
    assert_eq!((served(&one), served(&two)), (before.0, before.1 + 10));
    let warnings = proxy.server.shared().warnings();
    assert!(
        warnings[0].contains("the health check finds 1 of 2 instances down")
            && warnings[0].contains("503"),
        "{warnings:?}"
    );

    // Without any there is no answer.
    two_is_well.store(false, SeqCst);
    wait_until("all are down", || service.eligible() == 0);
    assert_eq!(proxy.ask(&get("/")).status, 503);
    one_is_well.store(true, SeqCst);
    wait_until("it is up again", || service.eligible() == 1);
    assert_eq!(proxy.ask(&get("/")).text(), "fine");
    assert_eq!(served(&one), before.0 + 1);
    for probed in [Probed::Healthy, Probed::Unhealthy] {
        assert!(
            service.probes[probed as usize].load(SeqCst) > 1,
            "{probed:?}"
        );
    }
}

#[test]
fn checks_follow_reloads_and_instances_keep_their_state() {
    let ((one, is_well), (two, _)) = (checked_instance(), checked_instance());
    is_well.store(false, SeqCst);
    let both = [one.address, two.address];
    let proxy = Proxy::start(&configuration(&both, CHECK, ""));
    let control = Control::over(&proxy);
    let service = proxy.service("s");
    wait_until("it is down", || {
        state(&service, one.address) == Some(State::Down)
            && state(&service, two.address) == Some(State::Up)
    });
    let since = || {
        let entries = service.entries();
        let entry = entries
            .iter()
            .find(|entry| entry.instance.address == one.address);
        entry.unwrap().health.as_ref().unwrap().since
    };
    let began = since();
    // A third one comes, with another weight; the check has another path, which it answers, but not often enough yet.
    let (three, _) = checked_instance();
    let three_there = configuration(&[one.address, two.address, three.address], CHECK, "")
        .replace("interval = \"100ms\"", "interval = \"200ms\"");
    control.reload(&proxy, &three_there);
    assert_eq!(state(&service, one.address), Some(State::Down));
    wait_until("the third one is up", || {
        state(&service, three.address) == Some(State::Up)
    });
    assert_eq!(
        (state(&service, one.address), since()),
        (Some(State::Down), began)
    );
    assert_eq!(service.eligible(), 2);
    // The check of one that goes ends.
    control.reload(
        &proxy,
        &configuration(&[one.address, three.address], CHECK, ""),
    );
    let probes = two.count();
    wait_until("a round of probes", || three.count() > 5);
    assert!(two.count() <= probes + 1, "{} of {probes}", two.count());
    // Without a check, nobody is down.
    control.reload(&proxy, &configuration(&both, "", ""));
    wait_until("nobody is checked", || states(&service) == [None, None]);
    assert_eq!(service.eligible(), 2);
    // And with one again.
    control.reload(&proxy, &configuration(&both, CHECK, ""));
    wait_until("it is down", || {
        state(&service, one.address) == Some(State::Down)
    });
}

#[test]
fn connections_of_plain_tcp_go_to_instances_that_are_up() {
    let (one, two) = (Instance::fine(), Instance::fine());
    // A port where nobody listens.
    let dead = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nservice = \"s\"\n[[service]]\nname = \"s\"\n\
         check = {{ kind = \"tcp\", interval = \"100ms\" }}\nchoice = \"round-robin\"\n\
         [[service.member]]\naddress = \"{dead}\"\n[[service.member]]\naddress = \"{}\"\n\
         [[service.member]]\naddress = \"{}\"\n",
        one.address, two.address
    );
    let proxy = Proxy::start(&text);
    let _control = Control::over(&proxy);
    let service = proxy.service("s");
    wait_until("the dead one is down", || {
        state(&service, dead) == Some(State::Down) && service.eligible() == 2
    });
    let entries = service.entries();
    let entry = entries.iter().find(|entry| entry.instance.address == dead);
    let instance = &entry.unwrap().instance;
    let before = instance.totals.requests.load(SeqCst);
    for _ in 0..6 {
        assert_eq!(proxy.ask(&get("/")).text(), "fine");
    }
    assert_eq!(instance.totals.requests.load(SeqCst), before);
}

#[test]
fn an_instance_that_says_nothing_is_used_until_the_first_result() {
    // It takes connections and is silent, so that the first result comes after the time-out.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let check = "check = { kind = \"http\", interval = \"1s\", fast_interval = \"100ms\", timeout = \"700ms\" }";
    let proxy = Proxy::start(&configuration(&[address], check, ""));
    let _control = Control::over(&proxy);
    let (mut probe, _) = silent.accept().unwrap();
    probe.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut begun = [0; 5];
    probe.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"GET /");
    let service = proxy.service("s");
    assert_eq!((states(&service), service.eligible()), (vec![None], 1));
    // One failure is enough then.
    wait_until("it is down", || states(&service) == [Some(State::Down)]);
    assert_eq!(service.eligible(), 0);
    drop(TcpStream::connect(address));
}
