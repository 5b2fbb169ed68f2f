//! `lbctl reload`, `diff` and `apply --dry-run`, and on what changes insist.

use lb_proto::v1::{self, apply_request::Change, plan_request::Source};
use serde_json::json;

use crate::{
    agent::{Agent, Received},
    run::{run, run_with},
};

const SHOWN: &str = "\
~ VIP 10.0.0.1:80/tcp: window 15m → default
~ VIP 10.0.0.1:80/tcp, real 10.1.0.2: weight 100 → 300
+ VIP 10.0.0.1:80/tcp, real 10.1.0.4: weight 7
- VIP 10.0.0.1:80/tcp, real 10.1.0.5
  refused: there is no such real
VIP 10.0.0.1:80/tcp: 25.00 % of its new flows would go to another real
! VIP 10.0.0.1:80/tcp, real 10.1.0.3 belongs to controller:web: left as it is (--force takes it over)
! interfaces: when the agent starts again
! listen: no effect, the agent's command line counts
";

#[test]
fn a_reload_shows_what_it_changed() {
    let agent = Agent::start();
    for (arguments, force, dry_run, last) in [
        (&["reload"][..], false, false, "4 changes\n"),
        (
            &["reload", "--force", "--dry-run"],
            true,
            true,
            "4 changes, none made\n",
        ),
    ] {
        let run = run(&agent.endpoint, arguments);
        assert_eq!(run.stdout, format!("{SHOWN}{last}"));
        assert_eq!(run.status, Some(1), "one change is refused");
        let expected = v1::ReloadRequest { force, dry_run };
        assert_eq!(agent.received(), [Received::Reload(expected)]);
    }
}

#[test]
fn a_file_is_compared_without_being_applied() {
    let agent = Agent::start();
    let text = "[[vip]]\naddress = \"10.0.0.1:80/tcp\"\n";
    let run = run_with(&agent.endpoint, &["-o", "json", "diff", "-"], text);
    let [plan] = &run.json_lines()[..] else {
        panic!("{run:?}")
    };
    assert_eq!(plan["dry_run"], true);
    assert_eq!(
        plan["changes"][1],
        json!({
            "kind": "update_real",
            "vip": "10.0.0.1:80/tcp",
            "real": "10.1.0.2",
            "settings": [{ "name": "weight", "before": 100, "after": 300 }],
            "error": null,
            "code": "OK",
        })
    );
    assert_eq!(
        plan["moves"],
        json!([{ "vip": "10.0.0.1:80/tcp", "moved": 0.25 }])
    );
    assert_eq!(run.stderr, "lbctl: 1 of 4 changes would be refused\n");
    let expected = v1::PlanRequest {
        source: Some(Source::Configuration(text.to_owned())),
        force: false,
    };
    assert_eq!(agent.received(), [Received::Plan(expected)]);
}

#[test]
fn a_script_is_tried_out() {
    let agent = Agent::start();
    let script = "add-vip 10.0.0.1:80/tcp\ndrain 10.0.0.1:80/tcp 10.1.0.2 --force\n";
    let run = run_with(&agent.endpoint, &["apply", "--dry-run"], script);
    assert_eq!(run.stdout, format!("{SHOWN}4 changes, none made\n"));
    let received = agent.received();
    let [
        Received::Plan(v1::PlanRequest {
            source: Some(Source::Changes(list)),
            ..
        }),
    ] = &received[..]
    else {
        panic!("{received:?}")
    };
    let [first, second] = &list.changes[..] else {
        panic!("{list:?}")
    };
    assert!(matches!(first.change, Some(Change::AddVip(_))));
    assert!(
        matches!(&second.change, Some(Change::UpdateReal(real)) if real.writer.as_ref().is_some_and(|writer| writer.force))
    );
}

#[test]
fn a_change_insists_on_owner_and_revision() {
    let agent = Agent::start();
    let vip = "10.0.0.1:80/tcp";
    let writer = |force, expected_revision| {
        Some(v1::Writer {
            force,
            expected_revision,
            ..v1::Writer::default()
        })
    };
    for (arguments, expected) in [
        (&["del-vip", vip][..], None),
        (&["del-vip", vip, "--force"], writer(true, 0)),
        (
            &["set-vip", vip, "--window", "1m", "--if-revision", "7"],
            writer(false, 7),
        ),
        (
            &["add-real", vip, "10.1.0.2", "--if-revision", "7"],
            writer(false, 7),
        ),
        (
            &["set-real", vip, "10.1.0.2", "--weight", "1", "--force"],
            writer(true, 0),
        ),
        (&["drain", vip, "10.1.0.2", "--force"], writer(true, 0)),
        (&["undrain", vip, "10.1.0.2", "--force"], writer(true, 0)),
        (
            &["del-real", vip, "10.1.0.2", "--force", "--if-revision", "9"],
            writer(true, 9),
        ),
    ] {
        let run = run(&agent.endpoint, arguments);
        assert_eq!(run.status, Some(0), "{run:?}");
        let received = agent.received();
        let [Received::Change(change)] = &received[..] else {
            panic!("{received:?}")
        };
        let writer = match change {
            Change::AddVip(request) => &request.writer,
            Change::UpdateVip(request) => &request.writer,
            Change::DeleteVip(request) => &request.writer,
            Change::AddReal(request) => &request.writer,
            Change::UpdateReal(request) => &request.writer,
            Change::DeleteReal(request) => &request.writer,
        };
        assert_eq!(*writer, expected, "{arguments:?}");
    }
}

#[test]
fn a_copy_is_written_to_a_new_file() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let path = file.to_str().unwrap();
    let written = run(&agent.endpoint, &["backup", path]);
    assert_eq!(written.status, Some(0), "{written:?}");
    assert!(written.stdout.starts_with("2 VIPs written"), "{written:?}");
    let text = "first\nVIP 1\nVIP 2\nlast\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let again = run(&agent.endpoint, &["backup", path]);
    assert_eq!(again.status, Some(1));
    assert!(again.stderr.contains("exists"), "{again:?}");
    assert_eq!(run(&agent.endpoint, &["backup", "-"]).stdout, text);
}
