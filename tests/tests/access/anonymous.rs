//! Callers who do not say who they are.

use std::{
    os::unix::fs::PermissionsExt as _, os::unix::process::CommandExt as _, process::Command,
};

use anyhow::ensure;
use lb_tests::{Controller, Network, binary};

use crate::bed::{Bed, curl};

const CREATE: &str = r#"{"action": "create", "type": "project", "info": {"name": "x"}}"#;

pub fn without_a_word_one_may_look_and_root_does_everything() -> anyhow::Result<()> {
    let bed = Bed::with_projects("")?;
    let list = bed.curl("/v1/projects", &[])?.expect(200)?.json();
    ensure!(list["projects"].as_array().unwrap().len() == 2, "{list}");
    for options in [&["-d", r#"{"name": "x"}"#][..], &["-X", "DELETE"]] {
        let answer = bed.curl("/v1/projects", options)?;
        ensure!([401, 405].contains(&answer.status), "{answer:?}");
    }
    let answer = bed.curl("/v1/requests", &["-d", CREATE])?.expect(401)?;
    let challenges = answer.fields("WWW-Authenticate");
    ensure!(challenges.len() == 2, "{challenges:?}");
    ensure!(challenges[0].starts_with("Digest "), "{challenges:?}");
    ensure!(
        challenges[0].contains("algorithm=SHA-256"),
        "{challenges:?}"
    );
    ensure!(challenges[1].starts_with("Bearer "), "{challenges:?}");
    // Nothing was changed by that.
    let list = bed.curl("/v1/projects", &[])?.json();
    ensure!(list["projects"].as_array().unwrap().len() == 2, "{list}");
    // Another user of this machine is not root.
    let folder = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bed.controller.folder(), folder)?;
    let socket = bed.controller.folder().join("api.sock");
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    let program = bed.folder.path().join("lbctl");
    std::fs::copy(binary("lbctl")?, &program)?;
    std::fs::set_permissions(bed.folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let as_nobody = |words: &[&str]| {
        Command::new(&program)
            .args(words)
            .args(["--controller", &bed.controller.endpoint()])
            .uid(65_534)
            .gid(65_534)
            .output()
    };
    let output = as_nobody(&["project", "list"])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success() && text.contains("shop"),
        "{output:?}"
    );
    let output = as_nobody(&["project", "add", "mine"])?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("say who you are"),
        "{text}"
    );
    Ok(())
}

pub fn a_closed_controller_answers_nobody() -> anyhow::Result<()> {
    let bed = Bed::with_projects("anonymous = \"none\"\nopen_metrics = false")?;
    let described = bed.curl("/v1/openapi.json", &[])?.expect(200)?.json();
    bed.curl("/healthz", &[])?.expect(200)?;
    let mut walked = 0;
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            if method == "parameters" || ["/v1/openapi.json", "/healthz"].contains(&path.as_str()) {
                continue;
            }
            let path = path
                .replace("{project}", "shop")
                .replace("{balancer}", "web")
                .replace("{pool}", "lb-2")
                .replace(['{', '}'], "");
            let method = method.to_uppercase();
            let answer = bed.curl(&path, &["-X", &method, "-d", "{}"])?;
            ensure!(answer.status == 401, "{method} {path}: {answer:?}");
            ensure!(!answer.body.contains("192.0.2.1"), "{answer:?}");
            walked += 1;
        }
    }
    ensure!(walked > 30, "{walked}");
    // Root goes on at the socket.
    ensure!(bed.lbctl(&["lb", "list"])?.contains("blog"));
    Ok(())
}

pub fn who_comes_from_elsewhere_has_to_say_who_it_is() -> anyhow::Result<()> {
    let network = Network::new()?;
    let (clients, host) = (network.client()?, network.real()?);
    let listen = format!("{}:8080", host.v4);
    let name = lb_tests::owner("access-remote");
    let controller = Controller::start_closed(Some(host.namespace()), &name, &["--http", &listen])?;
    let url = format!("http://{listen}/v1/pools");
    let ask = |options: &[&str]| clients.namespace().enter(|| curl(&url, options))?;
    ask(&[])?.expect(401)?;
    let token = controller.lbctl("token", &["add", "--role", "read"])?;
    let field = format!("Authorization: Bearer {}", token.trim());
    ask(&["-H", &field])?.expect(200)?;
    ask(&["-H", &field, "-d", "{}"])?.expect(403)?;
    Ok(())
}
