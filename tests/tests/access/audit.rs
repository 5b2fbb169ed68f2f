//! The audit log.

use anyhow::ensure;
use serde_json::Value;

use crate::bed::Bed;

fn entries(text: &str) -> anyhow::Result<Vec<Value>> {
    let value: Value = serde_json::from_str(text)?;
    Ok(value.as_array().cloned().unwrap_or_default())
}

pub fn who_changed_what_is_kept() -> anyhow::Result<()> {
    let mut bed = Bed::with_projects("anonymous = \"none\"")?;
    bed.user("alice", "correct horse", &["shop:operate"])?;
    let reader = bed.token(&["--project", "shop", "--role", "read"])?;
    let admin = bed.token(&["--project", "shop", "--role", "admin"])?;
    let path = "/v1/projects/shop/balancers/web";
    let alice = ["--digest", "-u", "alice:correct horse"];
    let patch = ["-X", "PATCH", "-d", r#"{"description": "ours"}"#];
    bed.curl(path, &[&alice[..], &patch].concat())?
        .expect(200)?;
    let wrong = ["-X", "PATCH", "-d", r#"{"port": 0}"#];
    bed.curl(path, &[&alice[..], &wrong].concat())?
        .expect(422)?;
    bed.curl_with(&reader, path, &patch)?.expect(403)?;
    // What is only read, and who is not known, is not in it.
    bed.curl_with(&reader, path, &[])?.expect(200)?;
    bed.curl(path, &patch)?.expect(401)?;
    bed.lbctl(&["project", "set", "shop", "quota.nodes=30"])?;
    let read = |bed: &Bed, words: &[&str]| {
        let text = bed.lbctl(&[&["audit", "-o", "json"], words].concat())?;
        entries(&text)
    };
    let all = read(&bed, &[])?;
    let find = |verb: &str, outcome: &str| {
        let is_it = |entry: &&Value| entry["verb"] == verb && entry["outcome"] == outcome;
        all.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let done = find("balancer.update", "done");
    ensure!(done.len() == 1, "{all:?}");
    let done = &done[0];
    ensure!(
        done["who"] == "user:alice" && done["via"] == "http",
        "{done}"
    );
    ensure!(done["before"] == 1 && done["after"] == 2, "{done}");
    ensure!(done["object"] == "project=shop balancer=web", "{done}");
    ensure!(
        done["from"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{done}"
    );
    ensure!(!done["request"].as_str().unwrap().is_empty(), "{done}");
    let refused = find("balancer.update", "refused");
    ensure!(
        refused.len() == 1 && refused[0]["status"] == "422",
        "{refused:?}"
    );
    let denied = find("balancer.update", "denied");
    ensure!(denied.len() == 1, "{denied:?}");
    ensure!(
        denied[0]["who"].as_str().unwrap().starts_with("token:"),
        "{denied:?}"
    );
    for (verb, count) in [
        ("project.create", 2),
        ("balancer.create", 2),
        ("user.add", 1),
        ("token.add", 2),
        ("project.update", 1),
    ] {
        let found = find(verb, "done");
        ensure!(found.len() == count, "{verb}: {found:?}");
        ensure!(
            found[0]["who"] == "local:0" && found[0]["via"] == "grpc",
            "{found:?}"
        );
    }
    ensure!(
        !format!("{all:?}").contains("horse"),
        "a password is in the log"
    );
    // An admin of a project sees its part.
    let answer = bed
        .curl_with(&admin, "/v1/audit?project=shop", &[])?
        .expect(200)?;
    let list = answer.json()["entries"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    ensure!(list.len() >= 5, "{answer:?}");
    ensure!(list.iter().all(|one| one["project"] == 1), "{answer:?}");
    let without = bed.curl_with(&admin, "/v1/audit", &[])?.expect(200)?;
    ensure!(without.json()["entries"].as_array().map(Vec::len) == Some(list.len()));
    bed.curl_with(&reader, "/v1/audit?project=shop", &[])?
        .expect(403)?;
    // It is there after a crash.
    bed.controller.kill()?;
    bed.controller.run()?;
    ensure!(read(&bed, &[])? == all);
    ensure!(read(&bed, &["--since", "1d", "--project", "blog"])?.len() == 2);
    ensure!(read(&bed, &["--most", "3"])?.len() == 3);
    let table = bed.lbctl(&["audit"])?;
    ensure!(table.contains("1 -> 2"), "{table}");
    Ok(())
}
