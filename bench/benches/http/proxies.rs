//! The proxies that are compared, and their backend.

use std::{fmt, fs, path::Path, time::Duration};

use anyhow::Context as _;
use lb_tests::{Namespace, Process, binary, server::wait_accepting};
use serde::Serialize;
use tempfile::TempDir;

/// A file of 1 KiB, which is not cached, ...
pub const PLAIN: &str = "/1k";
/// ... and one that is. All paths below its folder are such files.
pub const CACHED: &str = "/cached/1k";
/// A file of 1 GiB.
pub const BIG: &str = "/1g";
/// Ports of the backend.
const BACKENDS: [u16; 2] = [8_001, 8_002];
/// How long a proxy may take until it serves.
const START: Duration = Duration::from_secs(20);
/// Bytes of the caches.
pub const CACHE: u64 = 64 << 20;
/// Threads of each proxy.
const THREADS: usize = 2;

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Kind {
    LbProxy,
    HAProxy,
    Nginx,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::LbProxy, Kind::HAProxy, Kind::Nginx];

    const fn first_port(self) -> u16 {
        match self {
            Kind::LbProxy => 9_000,
            Kind::HAProxy => 9_100,
            Kind::Nginx => 9_200,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::LbProxy => "lb-proxy",
            Kind::HAProxy => "HAProxy",
            Kind::Nginx => "nginx",
        })
    }
}

/// What a proxy serves at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Http,
    Https,
}

impl Port {
    const fn number(self) -> u16 {
        match self {
            Port::Http => 80,
            Port::Https => 43,
        }
    }

    pub const fn is_tls(self) -> bool {
        matches!(self, Port::Https)
    }
}

/// All of them, running.
pub struct Proxies {
    lb_proxy: Process,
    haproxy: Process,
    nginx: Process,
    _backend: Process,
    _folder: TempDir,
    pub namespace: Namespace,
}

impl Proxies {
    /// Starts them in a namespace of their own, for so many connections each.
    pub fn start(connections: usize) -> anyhow::Result<Self> {
        let namespace = Namespace::new("http")?;
        // Each connection of a request leaves a port in TIME_WAIT.
        namespace.sysctl("net/ipv4/ip_local_port_range", "10000 65000")?;
        namespace.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        namespace.sysctl("net/core/somaxconn", "4096")?;
        let folder = TempDir::with_prefix("lb-bench-http-")?;
        let path = folder.path();
        write_files(path, connections)?;
        let start = |name: &str, program: &str, words: &[&str], ports: &[u16]| {
            let mut process = namespace.start(name, program, words)?;
            for port in ports {
                let target = ([127, 0, 0, 1], *port).into();
                wait_accepting(&namespace, target, &mut process, START)?;
            }
            anyhow::Ok(process)
        };
        let file = |name: &str| path.join(name).to_string_lossy().into_owned();
        let prefix = path.to_string_lossy().into_owned();
        let nginx = |name: &str, port| {
            let words = [
                "-p",
                &prefix,
                "-c",
                &file(name),
                "-e",
                "stderr",
                "-g",
                "daemon off;",
            ];
            start(name, "nginx", &words, &[port])
        };
        let backend = nginx("backend.conf", BACKENDS[0])?;
        let lb_proxy = binary("lb-proxy")?;
        let ports =
            |kind: Kind| [Port::Http, Port::Https].map(|port| kind.first_port() + port.number());
        Ok(Proxies {
            lb_proxy: start(
                "lb-proxy",
                &lb_proxy.to_string_lossy(),
                &["run", "--config", &file("proxy.toml")],
                &ports(Kind::LbProxy),
            )?,
            haproxy: start(
                "haproxy",
                "haproxy",
                &["-db", "-f", &file("haproxy.cfg")],
                &ports(Kind::HAProxy),
            )?,
            nginx: nginx("nginx.conf", Kind::Nginx.first_port() + Port::Http.number())?,
            _backend: backend,
            _folder: folder,
            namespace,
        })
    }

    /// A port of a proxy.
    pub fn port(&self, kind: Kind, port: Port) -> u16 {
        kind.first_port() + port.number()
    }

    /// The processes of a proxy.
    pub fn processes(&self, kind: Kind) -> anyhow::Result<Vec<u32>> {
        let first = match kind {
            Kind::LbProxy => &self.lb_proxy,
            Kind::HAProxy => &self.haproxy,
            Kind::Nginx => &self.nginx,
        }
        .id();
        let file = format!("/proc/{first}/task/{first}/children");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
        let children = text.split_whitespace().map(str::parse);
        let mut pids = children.collect::<Result<Vec<u32>, _>>()?;
        pids.push(first);
        Ok(pids)
    }
}

fn write_files(folder: &Path, connections: usize) -> anyhow::Result<()> {
    fs::write(folder.join("1k"), [b'x'; 1_024])?;
    let big = fs::File::create(folder.join("1g"))?;
    big.set_len(1 << 30)?;
    let parameters = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (
        parameters.cert.pem(),
        parameters.signing_key.serialize_pem(),
    );
    fs::write(folder.join("both.pem"), format!("{certificate}{key}"))?;
    fs::write(folder.join("cert.pem"), certificate)?;
    fs::write(folder.join("key.pem"), key)?;
    fs::write(folder.join("backend.conf"), backend())?;
    fs::write(folder.join("proxy.toml"), lb_proxy(folder, connections))?;
    fs::write(folder.join("haproxy.cfg"), haproxy(folder, connections))?;
    fs::write(folder.join("nginx.conf"), nginx(folder))?;
    Ok(())
}

fn backend() -> String {
    format!(
        "user root; worker_processes 1; pid backend.pid;
events {{ worker_connections 15000; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 1h;
    client_body_temp_path backend-body; proxy_temp_path backend-proxy; fastcgi_temp_path backend-fastcgi;
    uwsgi_temp_path backend-uwsgi; scgi_temp_path backend-scgi;
    server {{
        listen 127.0.0.1:{} backlog=4096; listen 127.0.0.1:{} backlog=4096;
        default_type text/plain; root .; etag off;
        add_header Cache-Control max-age=3600;
        location /cached/ {{ rewrite ^ /1k break; }}
    }}
}}
",
        BACKENDS[0], BACKENDS[1]
    )
}

fn lb_proxy(folder: &Path, connections: usize) -> String {
    let folder = folder.display();
    let port = |port: Port| Kind::LbProxy.first_port() + port.number();
    let [one, two] = BACKENDS;
    format!(
        "threads = {THREADS}
max_connections = {connections}
[[listener]]
address = '127.0.0.1:{}'
idle_timeout = '10m'
[[listener]]
address = '127.0.0.1:{}'
idle_timeout = '10m'
certificates = [{{ certificate = '{folder}/cert.pem', key = '{folder}/key.pem' }}]
[[route]]
path = '/'
service = 'plain'
[[route]]
path = '/cached/'
service = 'cached'
[[service]]
name = 'plain'
choice = 'round-robin'
member = [{{ address = '127.0.0.1:{one}' }}, {{ address = '127.0.0.1:{two}' }}]
[[service]]
name = 'cached'
choice = 'round-robin'
member = [{{ address = '127.0.0.1:{one}' }}, {{ address = '127.0.0.1:{two}' }}]
cache = {{ bytes = {CACHE} }}
",
        port(Port::Http),
        port(Port::Https),
    )
}

fn haproxy(folder: &Path, connections: usize) -> String {
    let folder = folder.display();
    let port = |port: Port| Kind::HAProxy.first_port() + port.number();
    let [one, two] = BACKENDS;
    format!(
        "global
    nbthread {THREADS}
    maxconn {connections}
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    timeout connect 2s
    timeout client 10m
    timeout server 10m
    http-reuse always
    balance roundrobin
cache objects
    total-max-size {cache}
    max-age 3600
frontend plain
    bind 127.0.0.1:{}
    bind 127.0.0.1:{} ssl crt {folder}/both.pem alpn h2,http/1.1
    use_backend cached if {{ path_beg /cached/ }}
    default_backend plain
backend plain
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
backend cached
    http-request cache-use objects
    http-response cache-store objects
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
",
        port(Port::Http),
        port(Port::Https),
        cache = CACHE >> 20,
    )
}

fn nginx(folder: &Path) -> String {
    let folder = folder.display();
    let port = |port: Port| Kind::Nginx.first_port() + port.number();
    let [one, two] = BACKENDS;
    format!(
        "user root; worker_processes {THREADS}; pid nginx.pid;
events {{ worker_connections 15000; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 10m;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    proxy_cache_path cache keys_zone=objects:16m max_size={cache}m;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.3;
    upstream backends {{ server 127.0.0.1:{one}; server 127.0.0.1:{two}; keepalive 128; }}
    proxy_http_version 1.1; proxy_set_header Connection '';
    server {{
        listen 127.0.0.1:{} backlog=4096; listen 127.0.0.1:{} ssl http2 backlog=4096;
        location / {{ proxy_pass http://backends; }}
        location /cached/ {{ proxy_pass http://backends; proxy_cache objects; }}
    }}
}}
",
        port(Port::Http),
        port(Port::Https),
        cache = CACHE >> 20,
    )
}
