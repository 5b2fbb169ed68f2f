//! Readers and probes over TLS with a private certificate authority, and with a login.

use std::fs;

use lb_clients::health::{
    Verdict,
    probe::{
        http::Http,
        mqtt::{Expect, Mqtt},
    },
};
use lb_clients::load::{reader, reading::Quantity};
use lb_clients::peer::{Secret, Tls};
use lb_model::component::Component;
use lb_tests::{Authority, Namespace, Process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{ask, find, read, source, subject, value};

const NAME: &str = "load.example";
const USER: &str = "reader";
const PASSWORD: &str = "sesame";
const WRONG: &str = "hunter2";

/// A folder with the certificate of an authority, a server's certificate issued by it, and passwords.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let authority = Authority::new().unwrap();
        let folder = Self(TempDir::with_prefix("lb-secure-").unwrap());
        folder.write("ca.pem", &authority.pem());
        authority.issue(folder.0.path(), "server", NAME).unwrap();
        folder.write("password", PASSWORD);
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Returns the settings of a probe.
    fn tls(&self) -> Tls {
        Tls {
            ca: Some(self.path("ca.pem").into()),
            server_name: Some(NAME.to_owned()),
            ..Tls::default()
        }
    }

    /// Returns the settings of a source of load.
    fn secured(&self, mut settings: Value) -> Value {
        settings["username"] = USER.into();
        settings["password"] = format!("file:{}", self.path("password")).into();
        settings["interval"] = "1s".into();
        settings["timeout"] = "1s".into();
        settings["tls"] = json!({"ca": self.path("ca.pem"), "server_name": NAME});
        settings
    }
}

/// Checks that a server is alive only for probes that trust its authority.
async fn probe(folder: &Folder, port: u16, probe: impl Fn(Tls) -> Component) {
    let known = ask(probe(folder.tls()), port).await;
    assert_eq!(known.verdict, Verdict::Healthy, "{known:?}");
    let unknown = ask(probe(Folder::new().tls()), port).await;
    assert_eq!(unknown.verdict, Verdict::Unhealthy, "{unknown:?}");
    assert!(unknown.reason.contains("certificate"), "{unknown:?}");
}

/// Waits until a source reports this error, and checks that no error contains a password.
async fn wait_refused(settings: &Value, because: &str) -> anyhow::Result<()> {
    let (sender, mut reports) = mpsc::channel(16);
    let _reader = reader::start(&source(settings.clone()), subject(), sender);
    find(&mut reports, because, |report| {
        let reason = report.outcome.as_ref().err()?.to_string();
        assert!(
            !reason.contains(PASSWORD) && !reason.contains(WRONG),
            "{reason}"
        );
        reason.contains(because).then_some(())
    })
    .await
}

/// Checks that a quantity is read, but not with another authority or another password.
async fn readable_only_with_login(
    folder: &Folder,
    settings: Value,
    quantity: Quantity,
    refused: &str,
) -> anyhow::Result<f64> {
    let (sender, mut reports) = mpsc::channel(16);
    let handle = reader::start(&source(settings.clone()), subject(), sender);
    let value = find(&mut reports, "a reading", |report| {
        value(&read(report)?, quantity)
    })
    .await?;
    drop(handle);

    let other = Folder::new();
    let mut stranger = settings.clone();
    stranger["tls"]["ca"] = other.path("ca.pem").into();
    wait_refused(&stranger, "certificate").await?;
    let mut renamed = settings.clone();
    renamed["tls"]["server_name"] = "other.example".into();
    wait_refused(&renamed, "certificate").await?;

    folder.write("password", WRONG);
    wait_refused(&settings, refused).await?;
    Ok(value)
}

pub fn nginx_is_probed_and_read_over_https_with_a_login() {
    let namespace = Namespace::new("secure-web").unwrap();
    let folder = Folder::new();
    folder.write("users", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
    folder.write(
        "nginx.conf",
        &format!(
            "user root;
worker_processes 1;
pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 443 ssl;
        ssl_certificate {};
        ssl_certificate_key {};
        location = /load {{
            auth_basic load;
            auth_basic_user_file {};
            root {};
        }}
    }}
}}
",
            folder.path("server.pem"),
            folder.path("server.key"),
            folder.path("users"),
            folder.path("")
        ),
    );
    folder.write("load", "{\"cpu\": 0.25}");
    let _nginx: Process = namespace
        .start(
            "nginx",
            "nginx",
            [
                "-p",
                &folder.path(""),
                "-c",
                &folder.path("nginx.conf"),
                "-e",
                "stderr",
                "-g",
                "daemon off;",
            ],
        )
        .unwrap();
    let settings = folder.secured(json!({
        "kind": "http-json",
        "port": 443,
        "path": "/load",
        "values": {"utilisation": "/cpu"},
    }));
    let https = |tls| {
        Component::new(
            "http",
            &Http {
                path: "/load".to_owned(),
                // This server requires no login.
                statuses: "401".parse().unwrap(),
                tls: Some(tls),
                ..Http::default()
            },
        )
    };
    let value = namespace
        .block_on(async {
            // The server may not be up yet, so the probe is repeated until it answers.
            let value = readable_only_with_login(&folder, settings, Quantity::Utilisation, "401");
            let value = value.await?;
            probe(&folder, 443, https).await;
            Ok(value)
        })
        .unwrap();
    assert_eq!(value, 0.25);
}

pub fn mosquitto_is_probed_and_read_over_tls_with_a_login() {
    let namespace = Namespace::new("secure-broker").unwrap();
    let folder = Folder::new();
    let users = folder.path("users");
    namespace
        .run(["mosquitto_passwd", "-b", "-c", &users, USER, PASSWORD])
        .unwrap();
    folder.write(
        "mosquitto.conf",
        &format!(
            "user root\nlistener 8883\nallow_anonymous false\npassword_file {users}\npersistence false\n\
             sys_interval 1\nlog_dest stderr\ncertfile {}\nkeyfile {}\n",
            folder.path("server.pem"),
            folder.path("server.key"),
        ),
    );
    let _broker: Process = namespace
        .start(
            "mosquitto",
            "mosquitto",
            ["-c", &folder.path("mosquitto.conf")],
        )
        .unwrap();
    let settings = folder.secured(json!({"kind": "mosquitto"}));
    let mqtt = |tls| {
        Component::new(
            "mqtt",
            &Mqtt {
                tls: Some(tls),
                username: Some(USER.to_owned()),
                password: Some(Secret::File(folder.path("login").into())),
                expect: Expect::Accepted,
                ..Mqtt::default()
            },
        )
    };
    folder.write("login", PASSWORD);
    let value = namespace
        .block_on(async {
            let value =
                readable_only_with_login(&folder, settings, Quantity::Connections, "refuse");
            let value = value.await?;
            probe(&folder, 8883, mqtt).await;
            Ok(value)
        })
        .unwrap();
    assert!(value >= 1.0, "{value}");
}
