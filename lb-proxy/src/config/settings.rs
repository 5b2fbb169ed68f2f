//! The settings of the configuration file, each declared once.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use lb_clients::peer::http_endpoint::HttpAddress;
use lb_model::{
    check::{Check, Via},
    dns::{MAX_DOMAIN, MAX_LABEL},
    network::Network,
    peer::Tls,
    settings::{Auto, FieldError, SettingType, Type, Value},
    vip::VipKey,
};

use super::stream::PoolStream;

/// The most threads that serve clients.
const MAX_THREADS: u32 = 256;
/// The shortest and the longest time of a phase.
const PHASE: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(86_400);

/// The name of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub HeaderName);

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.as_str().cmp(other.0.as_str())
    }
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name: HeaderName = text
            .parse()
            .map_err(|_| "give the name of a header, such as X-Tenant".to_owned())?;
        if crate::http::headers::is_framing(&name) {
            return Err("the proxy itself sets this header; choose another one".to_owned());
        }
        Ok(Name(name))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str())
    }
}

lb_model::text_setting!(Name, "name of a header");

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText(pub HeaderValue);

impl SettingType for HeaderText {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("value of a header")
    }

    fn from_json(value: &Value) -> Result<Self, FieldError> {
        let text = String::from_json(value)?;
        HeaderValue::from_str(&text)
            .map(HeaderText)
            .map_err(|_| FieldError::new("", &text, "give visible characters without line ends"))
    }

    fn to_json(&self) -> Value {
        Value::String(String::from_utf8_lossy(self.0.as_bytes()).into_owned())
    }

    fn is_within(&self, _: &std::ops::RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

/// Where an instance listens, or all instances that have a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberAddress {
    /// An address and a port.
    Address(SocketAddr),
    /// A name, in lower case, all of whose addresses are instances, and a port.
    Name(String, u16),
}

impl MemberAddress {
    /// Reads an address or a name, whose port may be that of the service.
    #[must_use]
    pub fn read(text: &str, port: Option<u16>) -> Option<Self> {
        if let Some(address) = crate::members::address_of(text, port) {
            return Some(MemberAddress::Address(address));
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, own)) => (name, own.parse().ok()?),
            None => (text, port?),
        };
        (port != 0 && is_name(name)).then(|| MemberAddress::Name(name.to_ascii_lowercase(), port))
    }
}

/// Whether a text is the name of a host. Digits and dots alone are a mistyped address.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label =
        |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.chars().all(letters);
    let has_letter = |label: &str| label.contains(|c: char| !c.is_ascii_digit());
    name.len() <= MAX_DOMAIN
        && name.split('.').all(is_label)
        && name.rsplit('.').next().is_some_and(has_letter)
}

impl std::str::FromStr for MemberAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        MemberAddress::read(text, None).ok_or_else(|| "give ADDRESS:PORT or NAME:PORT".to_owned())
    }
}

impl std::fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MemberAddress::Address(address) => address.fmt(f),
            MemberAddress::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

lb_model::text_setting!(MemberAddress, "`ADDRESS:PORT` or `NAME:PORT`");

/// What a consistent choice of an instance depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Source,
    /// The value of a header.
    Header(HeaderName),
    /// The value of a cookie.
    Cookie(String),
}

impl std::str::FromStr for HashKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "give source, header:NAME or cookie:NAME";
        match text.split_once(':') {
            None if text == "source" => Ok(HashKey::Source),
            Some(("header", name)) => name
                .parse()
                .map(HashKey::Header)
                .map_err(|_| FORM.to_owned()),
            Some(("cookie", name)) if !name.is_empty() && !name.contains(['=', ';', ' ']) => {
                Ok(HashKey::Cookie(name.to_owned()))
            }
            _ => Err(FORM.to_owned()),
        }
    }
}

impl std::fmt::Display for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HashKey::Source => f.write_str("source"),
            HashKey::Header(name) => write!(f, "header:{name}"),
            HashKey::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}

lb_model::text_setting!(HashKey, "`source`, `header:NAME` or `cookie:NAME`");

lb_model::choice! {
    /// Which requests are logged.
    pub enum AccessLog = Off {
        /// None.
        Off = "off",
        /// One of `access_log_sample`, and all whose status is 500 or more.
        Sampled = "sampled",
        /// All.
        All = "all",
    }
}

lb_model::choice! {
    /// What a listener's clients speak.
    pub enum Clients = Http {
        /// HTTP/1.1 and HTTP/2.
        Http = "http",
        /// Any protocol over TCP: bytes are passed on to an instance of one service.
        Tcp = "tcp",
    }
}

lb_model::choice! {
    /// What a service's instances speak.
    pub enum Protocol = Http1 {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2: over TLS, or without it with prior knowledge (gRPC).
        Http2 = "http2",
    }
}

lb_model::settings! {
    /// Settings of the proxy as a whole; the command line overrides them.
    pub struct ProxySettings {
        /// Threads that serve clients, each with connections of its own; `auto` is one per CPU.
        threads: Auto<u32> = Auto(None), 1..=MAX_THREADS;
        /// Where metrics, health and administration are served (`--admin`). Neither encrypted nor authenticated; only the
        /// proxy's own user and root may connect to a Unix socket.
        admin: Option<HttpAddress> = None;
        /// The Unix socket over which a proxy hands its listening sockets to the next one. Without it, connections that
        /// wait to be accepted are lost when the proxy is restarted.
        handover: Option<PathBuf> = None;
        /// The API of `lb-agent` (`--agent`), from which services with `vip` get their instances: `unix:PATH` or
        /// `http://HOST:PORT`.
        agent: Option<String> = None;
        /// How long open requests may take to end when the proxy ends.
        drain: Duration = Duration::from_secs(30), Duration::ZERO..=Duration::from_secs(86_400);
        /// Connections of clients that may be open at once; others wait to be accepted.
        max_connections: u32 = 50_000, 1..=10_000_000;
        /// Networks whose `X-Forwarded-For` and `Forwarded` headers are believed.
        trusted_proxies: Vec<Network> = Vec::new();
        /// Servers that names of members are asked of, instead of those of `/etc/resolv.conf`; each `ADDRESS:PORT`.
        resolvers: Vec<SocketAddr> = Vec::new();
        /// Whether health checks may run programs on this host.
        exec_checks: bool = false;
        /// Which requests are logged, as JSON on standard output: `off`, `sampled` or `all`.
        access_log: AccessLog = AccessLog::Off;
        /// With `sampled`: one request of so many is logged.
        access_log_sample: u32 = 100, 1..=1_000_000;
        /// How long a vital part may make no progress. The proxy ends then, and the service manager starts it again.
        watchdog: Duration = Duration::from_secs(60), Duration::from_secs(5)..=Duration::from_secs(3_600);
    }
}

lb_model::settings! {
    /// A certificate with its key. Which one a client gets depends on the names in it.
    pub struct Certificate {
        /// File of the certificate chain (PEM).
        certificate: PathBuf;
        /// File of the private key (PEM).
        key: PathBuf;
    }
}

lb_model::settings! {
    /// An address that clients connect to.
    pub struct ListenerSettings {
        /// Address and port.
        address: SocketAddr;
        /// What clients speak: `http` or `tcp`.
        protocol: Clients = Clients::Http;
        /// With `tcp`: the service whose instances get the bytes.
        service: Option<String> = None;
        /// Path that the proxy itself answers: 200 while it serves, and 503 while it drains. It has no route, and is in no log.
        health_path: Option<String> = None;
        /// Whether routes are for this listener, too. Without them it answers `health_path` alone.
        routes: bool = true;
        /// Certificates; with any, clients must speak TLS. The first one is for clients that name no server, or another.
        certificates: Vec<Certificate> = Vec::new();
        /// Whether clients may speak HTTP/2.
        http2: bool = true;
        /// Whether each connection begins with a header of the PROXY protocol, version 2, which names the client. Connections
        /// without one are closed, so only a balancer may reach such a listener.
        proxy_protocol: bool = false;
        /// Redirect all requests to HTTPS at this port.
        redirect_https: Option<u16> = None, 1..=65_535;
        /// How long the TLS handshake, and each request's head, may take.
        head_timeout: Duration = Duration::from_secs(10), PHASE;
        /// How long a connection may be idle between two requests.
        idle_timeout: Duration = Duration::from_secs(60), PHASE;
        /// How long a request's body may pause.
        body_timeout: Duration = Duration::from_secs(30), PHASE;
        /// How long a client may read nothing of what is sent to it.
        send_timeout: Duration = Duration::from_secs(60), PHASE;
        /// Bytes that a request's head may have.
        max_head: u32 = 32 << 10, 1_024..=1 << 20;
        /// Headers that a request may have.
        max_headers: u32 = 100, 10..=1_000;
        /// Bytes that a request's body may have; 0 is any number.
        max_body: u64 = 0, 0..=i64::MAX.unsigned_abs();
        /// Streams of one HTTP/2 connection that may be open at once.
        max_streams: u32 = 128, 1..=10_000;
    }
    validate(listener) {
        if let Some(path) = &listener.health_path {
            if listener.protocol == Clients::Tcp {
                let advice = "clients of `tcp` ask for no path; remove it, or add a listener of `http` for it";
                return Err(FieldError::new("health_path", path, advice));
            }
            let is_path = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '"' | '<' | '>' | '\\' | '{' | '}' | '|');
            if !path.starts_with('/') || !path.chars().all(is_path) {
                let advice = "give a path without query, such as /health";
                return Err(FieldError::new("health_path", path, advice));
            }
        }
        if !listener.routes && listener.health_path.is_none() {
            let advice = "a listener without routes answers `health_path` alone; give one";
            return Err(FieldError::new("routes", "false", advice));
        }
        match (listener.protocol, &listener.service) {
            (Clients::Tcp, None) => Err(FieldError::missing("service", "name the service that gets the bytes")),
            (Clients::Http, Some(name)) => {
                Err(FieldError::new("service", name, "routes name the services of HTTP; remove it"))
            }
            _ => Ok(()),
        }
    }
}

lb_model::settings! {
    /// Which requests go to which service.
    pub struct RouteSettings {
        /// Host name of the request; `*.example.com` is any name one or more levels below. Without it: any.
        host: Option<String> = None;
        /// Beginning of the path, in whole segments: `/api` is for `/api` and `/api/x`, not for `/apis`.
        path: String = "/".to_owned();
        /// The service.
        service: String;
        /// Headers of requests that are set, with their values.
        set_request_headers: BTreeMap<Name, HeaderText> = BTreeMap::new();
        /// Headers of requests that are removed.
        remove_request_headers: Vec<Name> = Vec::new();
        /// Headers of answers that are set, with their values.
        set_response_headers: BTreeMap<Name, HeaderText> = BTreeMap::new();
        /// Headers of answers that are removed.
        remove_response_headers: Vec<Name> = Vec::new();
        /// Bytes that a request's body may have; 0 is any number. Without it: the listener's.
        max_body: Option<u64> = None, 0..=i64::MAX.unsigned_abs();
        /// How long the answer's head may take. Without it: the service's `answer_timeout`.
        answer_timeout: Option<Duration> = None, PHASE;
    }
    validate(route) {
        if let Some(host) = &route.host {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
            if name.is_empty() || !name.chars().all(letters) {
                return Err(FieldError::new("host", host, "give a host name without port, such as www.example.com"));
            }
        }
        if !route.path.starts_with('/') {
            return Err(FieldError::new("path", &route.path, "begin with /"));
        }
        Ok(())
    }
}

lb_model::settings! {
    /// How static answers are cached.
    pub struct CacheSettings {
        /// Bytes that all cached answers of the service may take, with what belongs to them.
        bytes: u64 = 64 << 20, 64 << 10..=1 << 40;
        /// Answers that may be cached; 0 is any number.
        items: u64 = 0, 0..=1 << 32;
        /// Bytes of an answer's body, at most.
        max_object: u64 = 4 << 20, 1..=1 << 30;
        /// How long answers without a lifetime of their own are fresh, if their type is static (images, style sheets,
        /// scripts, fonts, ...); 0s: such answers are not cached.
        default_ttl: Duration = Duration::ZERO, Duration::ZERO..=Duration::from_secs(365 * 86_400);
        /// How long a stale answer may be served if instances fail, unless the answer says otherwise (`stale-if-error`).
        stale_if_error: Duration = Duration::ZERO, Duration::ZERO..=Duration::from_secs(30 * 86_400);
        /// How long requests wait for the one that fetches the same answer.
        @expert fetch_wait: Duration = Duration::from_secs(5), Duration::ZERO..=Duration::from_secs(60);
        /// How often expired answers are removed.
        @expert sweep: Duration = Duration::from_secs(10), Duration::from_secs(1)..=Duration::from_secs(3_600);
    }
}

lb_model::settings! {
    /// A group of instances that answer the same requests. Instances come from exactly one of `member`, `members_file`,
    /// `vip` and `pool`.
    pub struct ServiceSettings {
        /// Name, by which routes and listeners refer to it.
        name: String;
        /// File of instances, one a line: `ADDRESS:PORT [WEIGHT]` or `NAME:PORT [WEIGHT]`. It is read again when it changes.
        members_file: Option<PathBuf> = None;
        /// VIP of `lb-agent` whose reals are the instances, with the weights that steering applies.
        vip: Option<VipKey> = None;
        /// WebSocket of a pool, such as `ws://127.0.0.1:8081/v1/pools/web/stream`; or `ws+unix:SOCKET:/PATH` at a socket of
        /// this machine.
        pool: Option<PoolStream> = None;
        /// Place of a token of the controller, `file:PATH` or `env:NAME`, with the role `operate`: the stream of a pool needs one
        /// unless the controller lets everybody in.
        pool_token: Option<lb_model::peer::Secret> = None;
        /// Port of the instances, where their source names none, or another.
        port: Option<u16> = None, 1..=65_535;
        /// How an instance is chosen: docs/http.md describes the ways.
        choice: String = crate::choice::DEFAULT.to_owned();
        /// What `choice = "hash"` depends on: `source`, `header:NAME` or `cookie:NAME`.
        hash_on: HashKey = HashKey::Source;
        /// What instances speak: `http1` or `http2`.
        protocol: Protocol = Protocol::Http1;
        /// TLS with the instances; without it, none.
        tls: Option<Tls> = None;
        /// Whether connections to instances begin with a header of the PROXY protocol, version 2. Each client's connection
        /// then has connections of its own.
        send_proxy: bool = false;
        /// How long connecting to an instance may take.
        connect_timeout: Duration = Duration::from_secs(2), PHASE;
        /// How long an instance may take until the head of its answer.
        answer_timeout: Duration = Duration::from_secs(60), PHASE;
        /// How long an answer's body, or an upgraded or plain TCP connection, may pause.
        pause_timeout: Duration = Duration::from_secs(300), PHASE;
        /// How long an idle connection to an instance is kept.
        keep: Duration = Duration::from_secs(50), PHASE;
        /// Idle connections to an instance that each thread keeps.
        max_idle: u32 = 128, 0..=100_000;
        /// Requests that an instance may have at once; 0 is any number. Above it, other instances get them, or nobody.
        max_pending: u32 = 0, 0..=10_000_000;
        /// How many more instances a request is offered to, at most.
        retries: u32 = 2, 0..=10;
        /// Retries in percent of requests, at most. (10 in 10 seconds are always allowed.)
        retry_budget: u32 = 20, 0..=100;
        /// How long a new or recovered instance takes to get its whole share.
        slow_start: Duration = Duration::from_secs(10), Duration::ZERO..=Duration::from_secs(3_600);
        /// Failures in a row after which an instance is not chosen for a while; 0: never. Never more than half of the
        /// instances are left out.
        eject_after: u32 = 5, 0..=1_000;
        /// How long it is not chosen. Each further time in a row takes as much longer, ten times at most.
        eject_for: Duration = Duration::from_secs(10), Duration::from_millis(100)..=Duration::from_secs(3_600);
        /// How the instances of `member` and `members_file` are probed: the `check` of a VIP, without `via`. Without it they are
        /// not. (The agent checks the reals of a `vip`, the controller the instances of a `pool`.)
        check: Option<Check> = None;
        /// The cache; without it, nothing is cached.
        cache: Option<CacheSettings> = None;
    }
    validate(service) {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if service.name.is_empty() || service.name.len() > 64 || !service.name.chars().all(letters) {
            let advice = "give 1 to 64 letters, digits, -, _ or .";
            return Err(FieldError::new("name", &service.name, advice));
        }
        if !crate::choice::KINDS.iter().any(|kind| kind.name == service.choice) {
            let kinds: Vec<_> = crate::choice::KINDS.iter().map(|kind| (kind.name, kind.help)).collect();
            return Err(FieldError::new("choice", &service.choice, lb_model::settings::one_of(&kinds)));
        }
        if let Some(check) = &service.check {
            validate_check(service, check)?;
        }
        lb_clients::peer::tls::validate(service.tls.as_ref())
    }
}

/// Checks the health check of a service; its probe's own settings are checked with the file.
fn validate_check(service: &ServiceSettings, check: &Check) -> Result<(), FieldError> {
    let who = match (&service.vip, &service.pool) {
        (Some(_), _) => "lb-agent checks the reals of a `vip`",
        (None, Some(_)) => "the controller checks the instances of a `pool`",
        (None, None) if check.via != Via::Direct => {
            return Err(FieldError::new(
                "check.via",
                check.via,
                "only lb-agent has a tunnel; remove it",
            ));
        }
        (None, None) => return Ok(()),
    };
    let advice = format!("{who}; remove `check`");
    Err(FieldError::new("check", &check.probe.kind, advice))
}

lb_model::settings! {
    /// An instance that is written into the configuration file.
    pub struct MemberSettings {
        /// Address and port; or a name and a port: all addresses of the name are instances, each with this weight.
        address: MemberAddress;
        /// Share of the requests, relative to the other instances; 0: none.
        weight: u32 = 100, 0..=65_535;
    }
}
