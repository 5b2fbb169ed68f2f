//! Owners, revisions, the reload of the configuration file, and what changes would do.

use serde_json::json;

use super::*;
use lb_proto::v1::plan_request::Source;

const FILE: &str = r#"
[[vip]]
address = "10.0.0.1:80/tcp"
[[vip.real]]
address = "10.1.0.2"
[[vip.real]]
address = "10.1.0.3"
"#;

fn writer(force: bool, expected_revision: u64) -> Option<v1::Writer> {
    Some(v1::Writer {
        force,
        expected_revision,
        ..Default::default()
    })
}

/// Drains a real of the file.
fn drain(writer: Option<v1::Writer>) -> v1::UpdateRealRequest {
    v1::UpdateRealRequest {
        writer,
        ..update_real("10.1.0.2", None, Some(true), &[])
    }
}

/// What a plan changes, one line each.
fn lines(plan: &v1::ChangePlan) -> Vec<String> {
    let map = |table: &Option<prost_types::Struct>| {
        let map = lb_proto::settings::struct_to_map(table.clone().unwrap_or_default());
        serde_json::Value::Object(map)
    };
    let line = |change: &v1::PlannedChange| {
        let (before, after) = (map(&change.before), map(&change.settings));
        let settings = if before == json!({}) {
            String::new()
        } else {
            format!(" {before} → {after}")
        };
        format!("{} {}{settings}", change.kind, change.real)
    };
    plan.changes.iter().map(line).collect()
}

#[tokio::test]
async fn objects_of_the_file_are_refused_to_the_api() {
    let mut agent = Agent::start_with(FILE).await;
    let status = agent.client.update_real(drain(None)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("(owner file)"), "{status}");
    let details = status.get_error_details();
    assert_eq!(details.resource_info().unwrap().owner, "file");

    let real = agent
        .client
        .update_real(drain(writer(true, 0)))
        .await
        .unwrap();
    assert_eq!(real.into_inner().owner, "api");
    let vips = agent.client.list_vips(v1::ListVipsRequest::default()).await;
    let vips = vips.unwrap().into_inner().vips;
    assert_eq!((vips[0].owner.as_str(), vips[0].revision), ("file", 2));

    let status = agent.client.update_real(drain(writer(false, 1))).await;
    let status = status.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(
        status.message().contains("is at revision 2, not at 1"),
        "{status}"
    );

    for (owner, advice) in [("file", "call Reload"), ("nobody", "controller:NAME")] {
        let writer = v1::Writer {
            owner: owner.to_owned(),
            ..Default::default()
        };
        let status = agent
            .client
            .update_real(drain(Some(writer)))
            .await
            .unwrap_err();
        assert_eq!(field(&status), "writer.owner");
        assert!(status.message().contains(advice), "{status}");
    }
    agent.end().await;
}

#[tokio::test]
async fn a_reload_changes_modes_in_an_order_that_suits_the_reals() {
    let mut agent =
        Agent::start_with(&format!("{FILE}[[vip.real]]\naddress = \"fd00::2\"\n")).await;
    let changed = FILE.replace(
        "address = \"10.0.0.1:80/tcp\"",
        "address = \"10.0.0.1:80/tcp\"\nforward = \"l2\"",
    );
    let changed =
        format!("{changed}mode = \"nat\"\n[[vip.real]]\naddress = \"fd00::2\"\nmode = \"gue\"\n");
    std::fs::write(&agent.file, changed).unwrap();
    let request = v1::ReloadRequest::default();
    let made = agent.client.reload(request).await.unwrap().into_inner();
    assert_eq!(
        lines(&made),
        [
            // First what would not be reached by l2.
            "update_real 10.1.0.3",
            "update_real fd00::2",
            "update_vip  {\"forward\":\"ipip\"} → {\"forward\":\"l2\"}",
        ]
    );
    assert!(made.changes.iter().all(|change| change.error.is_empty()));
    agent.end().await;
}

#[tokio::test]
async fn a_reload_follows_the_file() {
    let mut agent = Agent::start_with(FILE).await;
    let changed = FILE.replace("10.1.0.3", "10.1.0.4") + "weight = 50\n";
    let changed = format!("exec_checks = true\n{changed}");
    std::fs::write(&agent.file, changed).unwrap();
    let request = |dry_run| v1::ReloadRequest {
        force: false,
        dry_run,
    };
    let plan = agent
        .client
        .reload(request(true))
        .await
        .unwrap()
        .into_inner();
    let expected = ["delete_real 10.1.0.3", "add_real 10.1.0.4"];
    assert_eq!(lines(&plan), expected);
    assert_eq!(plan.at_next_start, ["exec_checks"]);
    let [moves] = &plan.moves[..] else {
        panic!("{plan:?}")
    };
    // Half of the flows lose their real, and 10.1.0.2 gets a part of them.
    assert!((0.5..0.65).contains(&moves.moved), "{moves:?}");
    let reals = |vips: &v1::ListVipsResponse| -> Vec<String> {
        let reals = vips.vips[0].reals.iter();
        reals.map(|real| real.address.clone()).collect()
    };
    let list = agent.client.list_vips(v1::ListVipsRequest::default()).await;
    assert_eq!(reals(&list.unwrap().into_inner()), ["10.1.0.2", "10.1.0.3"]);

    let made = agent
        .client
        .reload(request(false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(lines(&made), expected);
    assert_eq!(made.at_next_start, ["exec_checks"]);
    let status = agent.owner.status().await.unwrap();
    let [warning] = &status.warnings[..] else {
        panic!("{:?}", status.warnings)
    };
    assert!(warning.contains("starts again: exec_checks ("), "{warning}");
    let list = agent.client.list_vips(v1::ListVipsRequest::default()).await;
    assert_eq!(reals(&list.unwrap().into_inner()), ["10.1.0.2", "10.1.0.4"]);

    // A file that is wrong changes nothing.
    std::fs::write(&agent.file, "[[vip]]\naddress = \"10.0.0.1\"\n").unwrap();
    let status = agent.client.reload(request(false)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("lb.toml:2:"), "{status}");
    let list = agent.client.list_vips(v1::ListVipsRequest::default()).await;
    assert_eq!(list.unwrap().into_inner().vips.len(), 1);
    agent.end().await;
}

#[tokio::test]
async fn changes_are_planned_without_being_made() {
    let mut agent = Agent::start_with(FILE).await;
    let plan = |source, force| v1::PlanRequest {
        source: Some(source),
        force,
    };
    let weight = v1::UpdateRealRequest {
        writer: writer(true, 0),
        ..update_real("10.1.0.2", Some(300), None, &[])
    };
    let changes = [
        v1::apply_request::Change::UpdateReal(weight),
        v1::apply_request::Change::AddReal(add_real("10.1.0.2", None)),
    ];
    let changes = changes.map(|change| v1::ApplyRequest {
        sequence: 0,
        change: Some(change),
    });
    let source = Source::Changes(v1::Changes {
        changes: changes.into(),
    });
    let planned = agent
        .client
        .plan(plan(source, false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        lines(&planned),
        [
            r#"update_real 10.1.0.2 {"weight":100} → {"weight":300}"#,
            "add_real 10.1.0.2",
        ]
    );
    assert_eq!(planned.changes[1].code, i32::from(Code::AlreadyExists));
    // From half of the flows to three quarters.
    assert!((0.24..0.3).contains(&planned.moves[0].moved), "{planned:?}");

    let file = FILE.replace("tcp\"", "tcp\"\nwindow = \"5m\"");
    let source = Source::Configuration(file);
    let planned = agent
        .client
        .plan(plan(source, false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(lines(&planned), ["update_vip "]);
    assert!(planned.moves.is_empty());

    // By another hash, half of the flows stay with one of two reals by chance.
    for setting in [r#"ring = "maglev-katran""#, r#"hash = "source""#] {
        let file = FILE.replace("tcp\"", &format!("tcp\"\n{setting}"));
        let planned = agent
            .client
            .plan(plan(Source::Configuration(file), false))
            .await
            .unwrap()
            .into_inner();
        let moved = planned.moves[0].moved;
        assert!((0.49..0.51).contains(&moved), "{setting}: {moved}");
    }

    let source = Source::Configuration("[[vip]]\n".to_owned());
    let status = agent.client.plan(plan(source, false)).await.unwrap_err();
    assert!(status.message().contains("configuration:1"), "{status}");
    let vips = agent.client.list_vips(v1::ListVipsRequest::default()).await;
    assert_eq!(
        vips.unwrap().into_inner().vips[0].revision,
        1,
        "nothing was changed"
    );
    agent.end().await;
}
