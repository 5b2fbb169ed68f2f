//! Handlers of the operator.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context as _, ensure};
use lb_tests::Authority;
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::Value;

use crate::site::Site;

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

/// A web hook that answers each request with this, and tells what it got.
fn hook(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    answer: &'static str,
) -> mpsc::Receiver<(String, String)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let stream: Box<dyn ReadWrite> = match &tls {
                None => Box::new(stream),
                Some(config) => {
                    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    Box::new(StreamOwned::new(connection, stream))
                }
            };
            let mut reader = BufReader::new(stream);
            let (mut length, mut signature) = (0, String::new());
            loop {
                let mut line = String::new();
                // Who does not trust the certificate goes away.
                if reader.read_line(&mut line).unwrap_or(0) < 3 {
                    break;
                }
                let (name, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
                match name.to_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap_or(0),
                    "x-lb-signature" => value.trim().clone_into(&mut signature),
                    _ => {}
                }
            }
            if length == 0 {
                continue;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            let stream = reader.get_mut();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            stream.flush().unwrap();
            let body = String::from_utf8(body).unwrap();
            if sender.send((signature, body)).is_err() {
                return;
            }
        }
    });
    receiver
}

pub fn programs_and_web_hooks_are_called() -> anyhow::Result<()> {
    let site = Site::new("env-hooks", "")?;
    let folder = site.controller.folder().to_owned();
    let (program, secret, file) = (
        folder.join("veto.sh"),
        folder.join("key"),
        folder.join("env.toml"),
    );
    fs::write(
        &program,
        "#!/bin/sh\ncat > /dev/null\necho '{\"veto\": \"it is Friday\"}'\n",
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    fs::write(&secret, "Jefe\n")?;
    let listener = site
        .host
        .namespace()
        .enter(|| TcpListener::bind("127.0.0.1:7000"))??;
    let calls = hook(listener, None, "{}");
    let hook = format!(
        "[[handlers]]\nname = \"hook\"\nevent = \"after_it_is_added\"\nrole = \"web\"\nurl = \"http://127.0.0.1:7000/hook\"\nsecret_file = \"{}\"\n",
        secret.display()
    );
    let veto = format!(
        "[[handlers]]\nname = \"veto\"\nevent = \"before_it_is_added\"\nrole = \"db\"\ncommand = [\"{}\"]\n",
        program.display()
    );
    // Programs run as the controller's user: that has to be allowed.
    fs::write(&file, format!("{hook}{veto}"))?;
    let refused = site.refused(&format!("env set shop site --file {}", file.display()))?;
    ensure!(refused.contains("--exec-drivers"), "{refused}");
    fs::write(&file, hook)?;
    site.run(&format!("env set shop site --file {}", file.display()))?;
    let tree = site.order(&site.adding("web-1", "web", 8001))?;
    let expected = "add web-1\n  create web-1\n  call hook: after_it_is_added of web-1\n";
    ensure!(tree == expected, "{tree}");
    let (signature, body) = calls.recv_timeout(crate::bed::PATIENCE)?;
    let event: Value = serde_json::from_str(&body)?;
    ensure!(
        event["event"] == "after_it_is_added" && event["member"]["name"] == "web-1",
        "{event}"
    );
    let line = format!("printf %s '{body}' | openssl dgst -sha256 -hmac Jefe");
    let digest = Command::new("sh").args(["-c", &line]).output()?;
    if digest.status.success() {
        let digest = String::from_utf8(digest.stdout)?;
        let digest = digest.trim().rsplit(' ').next().context("no digest")?;
        ensure!(
            signature == format!("sha256={digest}"),
            "{signature}, not {digest}"
        );
    }
    ensure!(
        signature.starts_with("sha256=") && signature.len() == 71,
        "{signature}"
    );
    Ok(())
}

pub fn web_hooks_speak_tls_and_trust_what_they_are_told_to() -> anyhow::Result<()> {
    let site = Site::new("env-tls", "")?;
    let folder = site.controller.folder().to_owned();
    let authority = Authority::new()?;
    let (certificate, key) = authority.certify("localhost")?;
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )?;
    let (ca, file) = (folder.join("ca.pem"), folder.join("env.toml"));
    fs::write(&ca, authority.pem())?;
    let listener = site
        .host
        .namespace()
        .enter(|| TcpListener::bind("127.0.0.1:7001"))??;
    let calls = hook(listener, Some(Arc::new(config)), r#"{"veto": "not today"}"#);
    let set = |tls: &str| {
        let hook = format!(
            "[[handlers]]\nname = \"hook\"\nevent = \"before_it_is_added\"\nurl = \"https://localhost:7001/\"\n{tls}"
        );
        fs::write(&file, hook)?;
        site.run(&format!("env set shop site --file {}", file.display()))
    };
    set(&format!("tls = {{ ca = \"{}\" }}\n", ca.display()))?;
    let why = site.order(&site.adding("web-1", "web", 8001));
    let (_, body) = calls.recv_timeout(crate::bed::PATIENCE)?;
    ensure!(body.contains("before_it_is_added"), "{body}");
    let why = format!("{why:?}");
    ensure!(why.contains("not today"), "{why}");
    Ok(())
}
