//! VIPs whose reals are all down.

use lb_tests::{client::get, server::Nginx, wait_for};

use crate::fixture::{HTTP, PATIENCE, SORRY, Testbed, new_testbed, target};

const CHECK: &str = "http path=/ interval=400ms fast_interval=200ms timeout=300ms";

pub fn the_reals_of_another_vip_stand_in() {
    let mut testbed = new_testbed(2, &[HTTP, SORRY]);
    testbed
        .add_service(SORRY, &[], &[&testbed.backends[1]])
        .unwrap();
    testbed
        .add_service(
            HTTP,
            &["--check", CHECK, "--when-empty", SORRY],
            &[&testbed.backends[0]],
        )
        .unwrap();
    let (own, other) = (
        testbed.backends[0].host.label().to_owned(),
        testbed.backends[1].host.label().to_owned(),
    );
    let address = testbed.backends[0].address();
    testbed.wait_healthy(HTTP, &address).unwrap();
    let answers = |testbed: &Testbed, name: &str| {
        wait_for(&format!("an answer of {name}"), PATIENCE, || {
            // A connection may fail while the change takes effect.
            let answer = get(&testbed.client, target(HTTP), "/").ok();
            Ok(answer.filter(|(server, _)| server == name).map(|_| ()))
        })
        .unwrap();
    };
    answers(&testbed, &own);

    testbed.backends[0].server.nginx = None;
    testbed.wait_state(HTTP, &address, "down").unwrap();
    answers(&testbed, &other);
    assert_eq!(
        testbed.agent.ctl_json(&format!("list {HTTP}")).unwrap()[0]["reals"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "those that testbed in are not its own"
    );

    testbed.backends[0].server.nginx = Some(Nginx::start(&testbed.backends[0].host, 80).unwrap());
    testbed.wait_healthy(HTTP, &address).unwrap();
    answers(&testbed, &own);
}

pub fn clients_are_reset_if_configured() {
    let mut testbed = new_testbed(1, &[HTTP]);
    testbed
        .add_service(
            HTTP,
            &["--check", CHECK, "--when-empty", "reset"],
            &[&testbed.backends[0]],
        )
        .unwrap();
    let address = testbed.backends[0].address();
    testbed.wait_healthy(HTTP, &address).unwrap();
    testbed.backends[0].server.nginx = None;
    testbed.wait_state(HTTP, &address, "down").unwrap();
    let error = get(&testbed.client, target(HTTP), "/").unwrap_err();
    let refused = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert!(refused, "{error:#}");
}
