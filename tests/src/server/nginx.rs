//! nginx.

use std::{fs, net::SocketAddr};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{files::write_big_file, wait_listening};
use crate::{Namespace, Process};

/// The response header with the server's name.
pub const SERVER_HEADER: &str = "x-real";

/// A running nginx. `/` returns the server's name and the client's address and port as the server sees them, `/big` the
/// large file if there is one, `/status` JSON, `/busy` status 503 and `/loop` a redirect to itself.
#[derive(Debug)]
pub struct Nginx {
    // Dropped before its folder.
    process: Process,
    folder: TempDir,
}

impl Nginx {
    /// Starts nginx in `namespace` on `port` of every address; its name is the namespace's label.
    ///
    /// # Errors
    /// Fails if nginx is missing or does not accept connections in time.
    pub fn start(namespace: &Namespace, port: u16) -> anyhow::Result<Self> {
        let name = namespace.label();
        Self::start_with(
            namespace,
            port,
            &format!("return 200 \"{name} $remote_addr $remote_port\\n\";"),
        )
    }

    /// Starts nginx in front of another server, which gets all requests for `/`.
    ///
    /// # Errors
    /// See [`Nginx::start`].
    pub fn start_in_front(
        namespace: &Namespace,
        port: u16,
        server: SocketAddr,
    ) -> anyhow::Result<Self> {
        Self::start_with(namespace, port, &format!("proxy_pass http://{server}/;"))
    }

    fn start_with(namespace: &Namespace, port: u16, root: &str) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("lb-nginx-").context("making a folder for nginx")?;
        let prefix = folder.path();
        let configuration = prefix.join("nginx.conf");
        fs::write(&configuration, text(namespace.label(), port, root))?;
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
    /// Fails if the file cannot be written.
    pub fn add_big_file(&self) -> anyhow::Result<()> {
        write_big_file(&self.folder.path().join("big"))
    }

    /// Asks nginx to end, without waiting; see [`Process::ask_to_end`](crate::Process::ask_to_end).
    pub fn ask_to_end(&mut self) {
        self.process.ask_to_end();
    }

    /// Fails if nginx has ended.
    ///
    /// # Errors
    /// Returns the output of a process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.process.check()
    }
}

/// The configuration; `root` says how `/` is answered.
fn text(name: &str, port: u16, root: &str) -> String {
    // The worker runs as root because other users cannot read the folder. Connections are kept for any number of
    // requests.
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
        location = / {{ {root} }}
        location = /big {{ }}
        location = /status {{ default_type application/json; return 200 '{{\"status\":\"UP\"}}'; }}
        location = /busy {{ return 503; }}
        location = /loop {{ return 302 /loop; }}
    }}
}}
"
    )
}
