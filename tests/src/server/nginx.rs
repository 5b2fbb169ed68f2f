//! nginx as a real.

use std::fs;

use anyhow::Context as _;
use tempfile::TempDir;

use super::{files::write_big_file, wait_listening};
use crate::{Namespace, Process};

/// The header in which a server tells its name.
pub const SERVER_HEADER: &str = "x-real";

/// A running nginx. `/` answers with the server's name and the client's address and port as the server sees
/// them, `/big` with the large file if there is one, `/status` with JSON, `/busy` with 503 and `/loop` with a
/// redirect to itself.
#[derive(Debug)]
pub struct Nginx {
    // Before the folder: the process ends first.
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx in `namespace` on `port` of every address; its name is the namespace's label.
    ///
    /// # Errors
    /// When nginx is missing or does not come up.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("lb-nginx-").context("making a folder for nginx")?;
        let prefix = folder.path();
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, text(namespace.label(), port))?;
        let prefix_text = prefix.to_string_lossy();
        let configuration_text = configuration.to_string_lossy();
        let mut process = namespace.start(
            "nginx",
            "nginx",
            [
                "-p",
                &prefix_text,
                "-c",
                &configuration_text,
                "-e",
                "stderr",
                "-g",
                "daemon off;",
            ],
        )?;
        wait_listening(namespace, port, &mut process)?;
        Ok(Self { process, folder })
    }

    /// Puts the large file at `/big`.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn add_big_file(&self) -> anyhow::Result<()> {
        write_big_file(&self.folder.path().join("big"))
    }

    /// Asks it to end and does not wait; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Whether it is still running.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}

fn text(name: &str, port: u16) -> String {
    // One worker as the user who runs the laboratory: the folder is nobody else's to read. Connections are
    // kept for as many requests as a client likes.
    format!(
        "user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    server {{
        listen {port} backlog=4096;
        listen [::]:{port} ipv6only=on backlog=4096;
        default_type text/plain;
        add_header {SERVER_HEADER} {name} always;
        root .;
        location = / {{ return 200 \"{name} $remote_addr $remote_port\\n\"; }}
        location = /big {{ }}
        location = /status {{ default_type application/json; return 200 '{{\"status\":\"UP\"}}'; }}
        location = /busy {{ return 503; }}
        location = /loop {{ return 302 /loop; }}
    }}
}}
"
    )
}
