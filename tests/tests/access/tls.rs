//! TLS, and certificates of clients.

use std::process::Command;

use anyhow::ensure;
use lb_tests::{Authority, binary};

use crate::bed::{Bed, curl, port};

pub fn a_certificate_is_the_user_of_its_name() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (servers, clients, others) = (Authority::new()?, Authority::new()?, Authority::new()?);
    std::fs::write(at("servers.pem"), servers.pem())?;
    std::fs::write(at("clients.pem"), clients.pem())?;
    servers.issue(folder.path(), "server", "localhost")?;
    clients.issue(folder.path(), "ci", "ci.example")?;
    clients.issue(folder.path(), "stranger", "stranger.example")?;
    others.issue(folder.path(), "forged", "ci.example")?;
    let (http, api) = (port()?, port()?);
    let bed = Bed::with_projects(&format!(
        "anonymous = \"none\"\n[access.tls]\ncertificate = {:?}\nkey = {:?}\nclients = {:?}\n\
         http = \"127.0.0.1:{http}\"\napi = \"127.0.0.1:{api}\"",
        at("server.pem"),
        at("server.key"),
        at("clients.pem"),
    ))?;
    bed.lbctl(&[
        "user",
        "add",
        "ci.example",
        "--no-password",
        "--role",
        "shop:operate",
    ])?;
    let base = format!("https://localhost:{http}");
    let ca = at("servers.pem");
    let ask = |name: &str, path: &str, options: &[&str]| {
        let (certificate, key) = (at(&format!("{name}.pem")), at(&format!("{name}.key")));
        let proof = ["--cacert", &ca, "--cert", &certificate, "--key", &key];
        curl(&format!("{base}{path}"), &[&proof, options].concat())
    };
    let list = ask("ci", "/v1/projects", &[])?.expect(200)?.json();
    ensure!(list["projects"].as_array().unwrap().len() == 1, "{list}");
    let patch = [
        "-X",
        "PATCH",
        "-d",
        r#"{"description": "by a certificate"}"#,
    ];
    ask("ci", "/v1/projects/shop/balancers/web", &patch)?.expect(200)?;
    ask("ci", "/v1/projects/blog/balancers/web", &patch)?.expect(404)?;
    // A good certificate of nobody, and none.
    ask("stranger", "/v1/projects", &[])?.expect(401)?;
    let plain = |options: &[&str]| {
        curl(
            &format!("{base}/v1/projects"),
            &[&["--cacert", &ca], options].concat(),
        )
    };
    plain(&[])?.expect(401)?;
    // One of another authority is not even listened to.
    ask("forged", "/v1/projects", &[]).unwrap_err();
    // A token does as well, and over gRPC.
    let token = bed.token(&["--project", "blog", "--role", "read"])?;
    plain(&["-H", &format!("Authorization: Bearer {token}")])?.expect(200)?;
    let lbctl = |options: &[&str], token: &str| {
        Command::new(binary("lbctl").unwrap())
            .args(["lb", "list", "--controller"])
            .arg(format!("https://localhost:{api}"))
            .args(["--ca", &ca])
            .args(options)
            .env("LB_TOKEN", token)
            .output()
    };
    let (certificate, key) = (at("ci.pem"), at("ci.key"));
    let output = lbctl(&["--certificate", &certificate, "--key", &key], "")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        text.contains("shop") && !text.contains("blog"),
        "{output:?}"
    );
    let output = lbctl(&[], &token)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        text.contains("blog") && !text.contains("shop"),
        "{output:?}"
    );
    let output = lbctl(&[], "")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains("say who you are"),
        "{output:?}"
    );
    let audit = bed.lbctl(&["audit"])?;
    ensure!(audit.contains("certificate:ci.example"), "{audit}");
    Ok(())
}
