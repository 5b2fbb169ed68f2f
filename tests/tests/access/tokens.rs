//! Tokens of projects and roles.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::bed::{Answer, Bed};

const CLOSED: &str = "anonymous = \"none\"";

pub fn a_token_does_what_its_role_allows() -> anyhow::Result<()> {
    let bed = Bed::with_projects(CLOSED)?;
    let token = |role: &str| bed.token(&["--project", "shop", "--role", role]);
    let (read, operate, admin) = (token("read")?, token("operate")?, token("admin")?);
    let path = "/v1/projects/shop/balancers/web";
    let patch = ["-X", "PATCH", "-d", r#"{"description": "ours"}"#];
    bed.curl_with(&read, path, &[])?.expect(200)?;
    let answer = bed.curl_with(&read, path, &patch)?.expect(403)?;
    let detail = answer.json()["detail"].clone();
    ensure!(detail.as_str().unwrap().contains("operate"), "{answer:?}");
    let changed = bed.curl_with(&operate, path, &patch)?.expect(200)?.json();
    ensure!(changed["generation"] == 2, "{changed}");
    // The same over gRPC and in the envelope.
    let refused = bed.lbctl_with(&read, &["lb", "set", "shop", "web", "description=x"]);
    ensure!(
        refused.clone().is_err_and(|text| text.contains("operate")),
        "{refused:?}"
    );
    bed.lbctl_with(&operate, &["lb", "set", "shop", "web", "description=x"])
        .map_err(anyhow::Error::msg)?;
    let update = json!({
        "action": "update", "type": "instance",
        "info": { "project": "shop", "name": "web", "description": "y" },
    });
    let answer = bed.order_with(&read, &update)?.expect(403)?;
    ensure!(answer.json()["status"] == "fail", "{answer:?}");
    bed.order_with(&operate, &update)?.expect(200)?;
    // A project's admin makes tokens of it, and not for others; its quota is not its own.
    let new = bed
        .curl_with(
            &admin,
            "/v1/tokens?project=shop",
            &["-d", r#"{"role": "read"}"#],
        )?
        .expect(201)?
        .json();
    let text = new["text"].as_str().unwrap().to_owned();
    bed.curl_with(&text, path, &[])?.expect(200)?;
    bed.curl_with(
        &operate,
        "/v1/tokens?project=shop",
        &["-d", r#"{"role": "read"}"#],
    )?
    .expect(403)?;
    bed.curl_with(&admin, "/v1/tokens", &["-d", r#"{"role": "admin"}"#])?
        .expect(403)?;
    bed.curl_with(
        &admin,
        "/v1/tokens?project=blog",
        &["-d", r#"{"role": "read"}"#],
    )?
    .expect(404)?;
    let quota = ["-X", "PATCH", "-d", r#"{"quota": {"nodes": 1000}}"#];
    bed.curl_with(&admin, "/v1/projects/shop", &quota)?
        .expect(403)?;
    for path in ["/v1/users", "/v1/pools"] {
        bed.curl_with(&admin, path, &[])?.expect(403)?;
    }
    // One of the whole controller.
    let all = bed.token(&["--role", "operate"])?;
    bed.curl_with(&all, "/v1/pools", &[])?.expect(200)?;
    bed.curl_with(&all, "/v1/projects/blog/balancers/web", &patch)?
        .expect(200)?;
    bed.curl_with(&all, "/v1/projects", &["-d", r#"{"name": "x"}"#])?
        .expect(403)?;
    Ok(())
}

/// The answer without what the caller has said itself.
fn without(answer: &Answer, words: &[&str]) -> (u16, Value) {
    let mut body = answer.body.clone();
    for word in words {
        body = body.replace(word, "X");
    }
    (
        answer.status,
        serde_json::from_str(&body).unwrap_or(Value::String(body)),
    )
}

pub fn a_foreign_project_is_as_none() -> anyhow::Result<()> {
    let bed = Bed::with_projects(CLOSED)?;
    let admin = bed.token(&["--project", "shop", "--role", "admin"])?;
    let lists = [
        ("/v1/projects", "projects"),
        ("/v1/balancers", "balancers"),
        ("/v1/tokens", "tokens"),
    ];
    for (path, name) in lists {
        let list = bed.curl_with(&admin, path, &[])?.expect(200)?.json();
        ensure!(list[name].as_array().unwrap().len() == 1, "{list}");
        ensure!(!list.to_string().contains("blog"), "{list}");
    }
    // The project blog has id 3, and its load balancer 4. Nothing has 99.
    for (method, path) in [
        ("GET", "/v1/projects/NAME"),
        ("PATCH", "/v1/projects/NAME"),
        ("DELETE", "/v1/projects/NAME"),
        ("GET", "/v1/projects/NAME/balancers"),
        ("POST", "/v1/projects/NAME/balancers"),
        ("GET", "/v1/projects/NAME/balancers/web"),
        ("PATCH", "/v1/projects/NAME/balancers/web"),
        ("DELETE", "/v1/projects/NAME/balancers/web"),
        ("GET", "/v1/tokens?project=NAME"),
        ("POST", "/v1/tokens?project=NAME"),
        ("GET", "/v1/audit?project=NAME"),
    ] {
        for (foreign, none) in [("blog", "nobody"), ("3", "99")] {
            let ask = |name: &str| {
                let path = path.replace("NAME", name);
                let answer = bed.curl_with(&admin, &path, &["-X", method, "-d", "{}"])?;
                anyhow::Ok(without(&answer, &[name]))
            };
            let found = ask(foreign)?;
            ensure!(found.0 == 404, "{method} {path}: {found:?}");
            ensure!(found == ask(none)?, "{method} {path}: {found:?}");
        }
    }
    for info in [
        json!({ "id": 4 }),
        json!({ "id": "4" }),
        json!({ "name": "4" }),
        json!({ "project": "blog", "name": "web" }),
        json!({ "project": 3, "id": 4 }),
        json!({ "project": "blog" }),
    ] {
        for action in ["info", "update", "delete"] {
            let ask = |info: &Value| {
                let order = json!({ "action": action, "type": "instance", "info": info });
                let answer = bed.order_with(&admin, &order)?;
                anyhow::Ok(without(&answer, &["blog", "nobody", "98", "99", "3", "4"]))
            };
            let found = ask(&info)?;
            ensure!(found.0 >= 400, "{info}: {found:?}");
            ensure!(!found.1.to_string().contains("192.0.2.1"), "{found:?}");
            let text = info.to_string();
            let none = text
                .replace("blog", "nobody")
                .replace('3', "98")
                .replace('4', "99");
            let none = ask(&serde_json::from_str(&none)?)?;
            ensure!(found == none, "{action} {info}: {found:?}, not {none:?}");
        }
    }
    for id in [json!(3), json!("blog")] {
        let key = if id.is_number() { "id" } else { "name" };
        let order = json!({ "action": "info", "type": "project", "info": { key: id } });
        bed.order_with(&admin, &order)?.expect(404)?;
    }
    let list = bed.order_with(&admin, &json!({ "action": "info", "type": "instance" }))?;
    ensure!(
        list.expect(200)?.json()["info"]["instances"]
            .as_array()
            .unwrap()
            .len()
            == 1
    );
    for words in [
        &["lb", "list", "blog"][..],
        &["lb", "show", "blog", "web"],
        &["lb", "set", "blog", "web", "description=x"],
        &["lb", "del", "blog", "web"],
        &["project", "list", "blog"],
        &["token", "list", "--project", "blog"],
        &["audit", "--project", "blog"],
    ] {
        let refused = bed.lbctl_with(&admin, words);
        let text = refused.err().unwrap_or_default();
        ensure!(
            text.contains("there is no project blog"),
            "{words:?}: {text}"
        );
    }
    let shown = bed.lbctl_with(&admin, &["lb", "list"]);
    ensure!(
        shown
            .clone()
            .is_ok_and(|text| text.contains("shop") && !text.contains("blog")),
        "{shown:?}"
    );
    // Nothing has happened to it.
    let list = bed.lbctl(&["lb", "list", "blog", "-o", "json"])?;
    let list: Value = serde_json::from_str(&list)?;
    ensure!(
        list[0]["generation"] == 1 && list[0]["deleting"] == false,
        "{list}"
    );
    Ok(())
}

pub fn a_token_ends_when_it_is_removed_and_its_text_is_nowhere() -> anyhow::Result<()> {
    let mut bed = Bed::with_projects(CLOSED)?;
    let token = bed.token(&[
        "--project",
        "shop",
        "--role",
        "read",
        "--description",
        "for a while",
    ])?;
    let short = bed.token(&["--project", "shop", "--role", "read", "--life", "1s"])?;
    let path = "/v1/projects/shop";
    bed.curl_with(&token, path, &[])?.expect(200)?;
    bed.controller.kill()?;
    bed.controller.run()?;
    bed.curl_with(&token, path, &[])?.expect(200)?;
    lb_tests::wait_for(
        "the end of a token",
        std::time::Duration::from_secs(30),
        || Ok((bed.curl_with(&short, path, &[])?.status == 401).then_some(())),
    )?;
    // Its secret is stored nowhere.
    let secret = token.rsplit('_').next().unwrap().as_bytes();
    let mut folders = vec![bed.controller.state()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(bytes) = std::fs::read(&path) {
                let has = bytes.windows(secret.len()).any(|part| part == secret);
                ensure!(!has, "the secret is in {}", path.display());
                files += 1;
            }
        }
    }
    ensure!(files >= 2, "{files}");
    let list = bed.lbctl(&["token", "list", "-o", "json"])?;
    ensure!(list.contains("for a while"), "{list}");
    let id = token.split('_').nth(1).unwrap();
    bed.lbctl(&["token", "remove", id])?;
    bed.curl_with(&token, path, &[])?.expect(401)?;
    let text = bed.lbctl(&["token", "remove", id]).unwrap_err().to_string();
    ensure!(text.contains("there is no token"), "{text}");
    // A project that is gone takes its tokens with it.
    let token = bed.token(&["--project", "blog", "--role", "admin"])?;
    bed.lbctl(&["lb", "del", "blog", "web"])?;
    let what = "the load balancer to be gone";
    lb_tests::wait_for(what, std::time::Duration::from_secs(60), || {
        let list = bed.lbctl(&["lb", "list", "blog", "-o", "json"])?;
        Ok((list.trim() == "[]").then_some(()))
    })?;
    bed.lbctl(&["project", "del", "blog"])?;
    bed.curl_with(&token, "/v1/projects/blog", &[])?
        .expect(404)?;
    bed.token(&["--project", "shop", "--role", "read"])?;
    bed.curl_with(&token, "/v1/projects/blog", &[])?
        .expect(401)?;
    Ok(())
}

pub fn environments_and_commands_are_those_of_their_project() -> anyhow::Result<()> {
    let bed = Bed::with_projects(CLOSED)?;
    bed.lbctl(&["env", "create", "blog", "secret"])?;
    let operate = bed.token(&["--project", "shop", "--role", "operate"])?;
    let read = bed.token(&["--project", "shop", "--role", "read"])?;
    let create = ["-d", r#"{"name": "site"}"#];
    let path = "/v1/projects/shop/environments";
    bed.curl_with(&read, path, &create)?.expect(403)?;
    bed.curl_with(&operate, path, &create)?.expect(201)?;
    for (path, name) in [
        ("/v1/environments", "environments"),
        ("/v1/commands", "commands"),
    ] {
        let list = bed.curl_with(&read, path, &[])?.expect(200)?.json();
        ensure!(list[name].as_array().unwrap().len() == 1, "{list}");
        ensure!(!list.to_string().contains("secret"), "{list}");
    }
    let shown = bed.lbctl_with(&read, &["command", "list"]);
    let shown = shown.map_err(anyhow::Error::msg)?;
    ensure!(
        shown.contains("site") && !shown.contains("secret"),
        "{shown}"
    );
    // The first command is of the other project, also for who names the own one beside it. Nothing has 99.
    for (method, path) in [
        ("GET", "/v1/commands/ID"),
        ("GET", "/v1/commands/ID?project=shop"),
        ("POST", "/v1/commands/ID/cancel"),
        ("POST", "/v1/commands/ID/retry?project=shop"),
    ] {
        let ask = |id: &str| {
            let path = path.replace("ID", id);
            let answer = bed.curl_with(&operate, &path, &["-X", method])?;
            anyhow::Ok(without(&answer, &[id]))
        };
        let found = ask("1")?;
        ensure!(found.0 == 404, "{method} {path}: {found:?}");
        ensure!(found == ask("99")?, "{method} {path}: {found:?}");
    }
    for words in [
        &["command", "show", "1"][..],
        &["command", "cancel", "1"],
        &["env", "show", "blog", "secret"],
        &["env", "destroy", "blog", "secret"],
        &["subnet", "list", "blog"],
        &["subnet", "add", "blog", "net", "cidr=10.5.0.0/24"],
    ] {
        let refused = bed.lbctl_with(&operate, words);
        let text = refused.err().unwrap_or_default();
        ensure!(text.contains("there is no"), "{words:?}: {text}");
    }
    // A token of the other project is not removed by who names the own project beside it.
    let admin = bed.token(&["--project", "shop", "--role", "admin"])?;
    let foreign = bed.token(&["--project", "blog", "--role", "read"])?;
    let id = foreign.split('_').nth(1).unwrap();
    let path = format!("/v1/tokens/{id}?project=shop");
    bed.curl_with(&admin, &path, &["-X", "DELETE"])?
        .expect(404)?;
    bed.curl_with(&foreign, "/v1/projects/blog", &[])?
        .expect(200)?;
    for kind in ["subnet", "instance"] {
        for id in [3, 4, 99] {
            let order = json!({ "action": "info", "type": kind, "info": { "id": id } });
            bed.order_with(&operate, &order)?.expect(404)?;
        }
    }
    // A pool runs programs on the controller's hosts: that is not for tenants.
    let pool = r#"{"name": "web", "settings": {"role": "web", "pool": {"driver": {"kind": "process"},
        "template": {"program": "/bin/sh"}, "network": {"port": 9100}, "scaling": {"min": 0}}}}"#;
    let path = "/v1/projects/shop/environments/site/members";
    let answer = bed.curl_with(&operate, path, &["-d", pool])?.expect(403)?;
    ensure!(
        answer.body.contains("for the whole controller"),
        "{answer:?}"
    );
    // Handlers may order the same.
    let handler =
        r#"{"handlers": [{"name": "x", "event": "is_down", "url": "http://192.0.2.1/"}]}"#;
    let path = "/v1/projects/shop/environments/site";
    let answer = bed.curl_with(&operate, path, &["-X", "PATCH", "-d", handler])?;
    ensure!(
        answer
            .expect(403)?
            .body
            .contains("for the whole controller"),
        "no reason"
    );
    let all = bed.token(&["--role", "operate"])?;
    bed.curl_with(&all, path, &["-X", "PATCH", "-d", handler])?
        .expect(202)?;
    for (method, path) in [("GET", "/v1/hosts"), ("POST", "/v1/host-tokens")] {
        bed.curl_with(&admin, path, &["-X", method])?.expect(403)?;
    }
    Ok(())
}
