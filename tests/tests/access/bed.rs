//! A controller that asks who calls, with two projects and a load balancer in each.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use anyhow::{Context as _, ensure};
use lb_tests::{Controller, binary};
use serde_json::Value;

/// The controller.
pub struct Bed {
    pub controller: Controller,
    pub http: SocketAddr,
    pub folder: tempfile::TempDir,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// All fields of this name.
    pub fn fields(&self, name: &str) -> Vec<String> {
        let fields = self.head.lines().filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        });
        fields.collect()
    }

    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(self.status == status, "not {status}: {self:?}");
        Ok(self)
    }
}

/// A port that nobody listens on.
pub fn port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}

impl Bed {
    /// Starts it with these further settings of `[access]`.
    pub fn new(access: &str) -> anyhow::Result<Self> {
        let name = lb_tests::owner("access");
        let folder = tempfile::tempdir()?;
        let http = SocketAddr::from(([127, 0, 0, 1], port()?));
        let file = folder.path().join("controller.toml");
        std::fs::write(
            &file,
            format!(
                "http = \"{http}\"\n[nodes]\nbridge = \"lb-none\"\nrange = \"10.255.0.11-10.255.0.90/16\"\n[access]\n{access}\n"
            ),
        )?;
        let options = ["--config", &file.display().to_string()];
        let controller = Controller::start_closed(None, &name, &options)?;
        Ok(Bed {
            controller,
            http,
            folder,
        })
    }

    /// The same with projects `shop` and `blog`, and a load balancer `web` in each.
    pub fn with_projects(access: &str) -> anyhow::Result<Self> {
        let bed = Bed::new(access)?;
        for project in ["shop", "blog"] {
            bed.lbctl(&["project", "add", project])?;
            bed.lbctl(&["lb", "add", project, "web", "--backend", "192.0.2.1"])?;
        }
        Ok(bed)
    }

    /// Runs `lbctl` as root.
    pub fn lbctl(&self, words: &[&str]) -> anyhow::Result<String> {
        let (verb, words) = words.split_first().context("no verb")?;
        self.controller.lbctl(verb, words)
    }

    /// Runs `lbctl` with a token.
    pub fn lbctl_with(&self, token: &str, words: &[&str]) -> Result<String, String> {
        let output = Command::new(binary("lbctl").unwrap())
            .args(words)
            .args(["--controller", &self.controller.endpoint()])
            .env("LB_TOKEN", token)
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Makes a token: its text.
    pub fn token(&self, words: &[&str]) -> anyhow::Result<String> {
        let text = self.lbctl(&[&["token", "add"], words].concat())?;
        let text = text.trim().to_owned();
        ensure!(text.starts_with("lbt_"), "{text}");
        Ok(text)
    }

    /// Adds a user with this password.
    pub fn user(&self, name: &str, password: &str, roles: &[&str]) -> anyhow::Result<()> {
        let file = self.file("password", password)?;
        let file = file.display().to_string();
        let mut words = vec!["user", "add", name, "--password-file", &file];
        for role in roles {
            words.extend(["--role", role]);
        }
        self.lbctl(&words)?;
        Ok(())
    }

    /// Writes a file of this content.
    pub fn file(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }

    /// Makes a request with `curl`.
    pub fn curl(&self, path: &str, options: &[&str]) -> anyhow::Result<Answer> {
        curl(&format!("http://{}{path}", self.http), options)
    }

    /// The same with a token.
    pub fn curl_with(&self, token: &str, path: &str, options: &[&str]) -> anyhow::Result<Answer> {
        let field = format!("Authorization: Bearer {token}");
        self.curl(path, &[options, &["-H", &field]].concat())
    }

    /// Sends an order in the envelope, with a token.
    pub fn order_with(&self, token: &str, order: &Value) -> anyhow::Result<Answer> {
        self.curl_with(token, "/v1/requests", &["-d", &order.to_string()])
    }
}

/// Makes a request with `curl`: the last answer.
pub fn curl(url: &str, options: &[&str]) -> anyhow::Result<Answer> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "60"])
        .args(options)
        .arg(url)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "curl {url}: {error}");
    // Answers before the last have no body that is kept apart: a challenge, or 100.
    let mut rest = text.as_str();
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        match body.find("HTTP/1.1 ") {
            Some(at) => rest = &body[at..],
            None => {
                return Ok(Answer {
                    status,
                    head: head.to_owned(),
                    body: body.to_owned(),
                });
            }
        }
    }
}
