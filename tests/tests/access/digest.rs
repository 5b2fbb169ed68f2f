//! Users and passwords: HTTP Digest by `curl`.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::bed::Bed;

const PASSWORD: &str = "correct horse";
const CREATE: &str = r#"{"action": "create", "type": "project", "info": {"name": "NAME"}}"#;

pub fn a_password_opens_and_a_wrong_one_does_not() -> anyhow::Result<()> {
    let bed = Bed::new("anonymous = \"none\"")?;
    bed.user("alice", PASSWORD, &["admin"])?;
    bed.user("carol", "carols password", &["read"])?;
    let digest = |user: &str, options: &[&str]| {
        let options = [&["--digest", "-u", user], options].concat();
        bed.curl("/v1/requests", &options)
    };
    let create = |name: &str| CREATE.replace("NAME", name);
    let answer = digest("alice:correct horse", &["-d", &create("one")])?.expect(201)?;
    ensure!(answer.json()["status"] == "successful", "{answer:?}");
    // Several requests with one nonce.
    for name in ["two", "three"] {
        digest("alice:correct horse", &["-d", &create(name)])?.expect(201)?;
    }
    for wrong in ["alice:wrong horse", "alice:", "bob:correct horse"] {
        digest(wrong, &["-d", &create("four")])?.expect(401)?;
    }
    let answer = digest("carol:carols password", &["-d", &create("four")])?.expect(403)?;
    let json = answer.json();
    ensure!(json["status"] == "fail", "{json}");
    let text = json["info"]["error"].as_str().unwrap_or_default();
    ensure!(text.contains("admin"), "{json}");
    let list = bed
        .curl("/v1/projects", &["--digest", "-u", "carol:carols password"])?
        .expect(200)?
        .json();
    ensure!(list["projects"].as_array().unwrap().len() == 3, "{list}");
    // Another password counts at once, and the old one does not.
    let file = bed.file("new", "another horse\n")?.display().to_string();
    bed.lbctl(&["user", "password", "alice", "--password-file", &file])?;
    digest("alice:correct horse", &["-d", &create("four")])?.expect(401)?;
    digest("alice:another horse", &["-d", &create("four")])?.expect(201)?;
    // What failed is counted.
    let metrics = bed.curl("/metrics", &[])?.expect(200)?.body;
    let count = metrics
        .lines()
        .find(|line| line.starts_with("lb_controller_failed_logins_total{reason=\"password\"}"))
        .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    ensure!(count >= Some(4.0), "{count:?}");
    let log = bed.controller.output();
    ensure!(log.contains("did not prove who it is"), "{log}");
    ensure!(!log.contains("horse"), "a password is in the log");
    bed.lbctl(&["user", "remove", "alice"])?;
    digest("alice:another horse", &["-d", &create("five")])?.expect(401)?;
    Ok(())
}

/// What `curl` sent last as `Authorization`.
fn recorded(bed: &Bed, path: &str) -> anyhow::Result<String> {
    let output = Command::new("curl")
        .args(["-v", "-s", "--digest", "-u", "alice:correct horse"])
        .arg(format!("http://{}{path}", bed.http))
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let field = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("> Authorization: "));
    Ok(field.with_context(|| text.clone())?.to_owned())
}

pub fn a_request_that_was_recorded_is_not_taken_again() -> anyhow::Result<()> {
    let mut bed = Bed::new("anonymous = \"none\"")?;
    bed.user("alice", PASSWORD, &["admin"])?;
    let field = recorded(&bed, "/v1/pools")?;
    ensure!(
        field.starts_with("Digest ") && field.contains("nc=00000001"),
        "{field}"
    );
    let send = |bed: &Bed, path: &str, field: &str| {
        let field = format!("Authorization: {field}");
        bed.curl(path, &["-H", &field])
    };
    send(&bed, "/v1/pools", &field)?.expect(401)?;
    // Neither with another count, nor for another path or method.
    let later = field.replace("nc=00000001", "nc=00000002");
    send(&bed, "/v1/pools", &later)?.expect(401)?;
    send(&bed, "/v1/projects", &field)?.expect(401)?;
    let projects = field.replace("/v1/pools", "/v1/projects");
    send(&bed, "/v1/projects", &projects)?.expect(401)?;
    let metrics = bed.curl("/metrics", &[])?.body;
    let replays = "lb_controller_failed_logins_total{reason=\"replay\"} 1";
    ensure!(
        metrics.lines().any(|line| line.starts_with(replays)),
        "{metrics}"
    );
    // Nor after a restart.
    let field = recorded(&bed, "/v1/pools")?;
    bed.controller.kill()?;
    bed.controller.run()?;
    let answer = send(&bed, "/v1/pools", &field)?.expect(401)?;
    let challenges = answer.fields("WWW-Authenticate");
    ensure!(challenges[0].contains("stale=true"), "{challenges:?}");
    // What cannot be read is no proof, either.
    for wrong in [
        "Digest",
        "Digest username=\"alice\"",
        "Basic YWxpY2U6eA==",
        "x",
    ] {
        send(&bed, "/v1/pools", wrong)?.expect(401)?;
    }
    Ok(())
}
