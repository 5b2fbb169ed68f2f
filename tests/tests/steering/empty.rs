//! No real of a VIP lives.

use lb_tests::{client::get, server::Nginx, wait_for};

use crate::fixture::{HTTP, PATIENCE, SORRY, Stand, target};

const CHECK: &str = "http path=/ interval=400ms fast_interval=200ms timeout=300ms";

#[test]
fn another_vips_reals_stand_in() {
    let mut stand = Stand::new(2, &[HTTP, SORRY]);
    stand.serve(SORRY, &[], &[&stand.reals[1]]);
    stand.serve(
        HTTP,
        &["--check", CHECK, "--when-empty", SORRY],
        &[&stand.reals[0]],
    );
    let (own, other) = (
        stand.reals[0].host.label().to_owned(),
        stand.reals[1].host.label().to_owned(),
    );
    let address = stand.reals[0].address();
    stand.wait_healthy(HTTP, &address);
    let answers = |stand: &Stand, name: &str| {
        wait_for(&format!("an answer of {name}"), PATIENCE, || {
            // While the way is changed a connection may be lost.
            let answer = get(&stand.client, target(HTTP), "/").ok();
            Ok(answer.filter(|(server, _)| server == name).map(|_| ()))
        })
        .unwrap();
    };
    answers(&stand, &own);

    stand.reals[0].nginx = None;
    stand.wait_state(HTTP, &address, "down");
    answers(&stand, &other);
    assert_eq!(
        stand.agent.ctl_json(&format!("list {HTTP}")).unwrap()[0]["reals"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "those that stand in are not its own"
    );

    stand.reals[0].nginx = Some(Nginx::start(&stand.reals[0].host, 80).unwrap());
    stand.wait_healthy(HTTP, &address);
    answers(&stand, &own);
}

#[test]
fn clients_are_told_by_a_reset() {
    let mut stand = Stand::new(1, &[HTTP]);
    stand.serve(
        HTTP,
        &["--check", CHECK, "--when-empty", "reset"],
        &[&stand.reals[0]],
    );
    let address = stand.reals[0].address();
    stand.wait_healthy(HTTP, &address);
    stand.reals[0].nginx = None;
    stand.wait_state(HTTP, &address, "down");
    let error = get(&stand.client, target(HTTP), "/").unwrap_err();
    let refused = error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert!(refused, "{error:#}");
}
