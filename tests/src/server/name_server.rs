//! DNS servers with a zone that accepts signed updates: BIND and Knot.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{Namespace, Process, wait_for};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);
/// Where it listens.
const ADDRESS: &str = "127.0.0.1";

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServerKind {
    /// BIND 9.
    Bind,
    /// Knot DNS.
    Knot,
}

/// A running DNS server on 127.0.0.1:53 of a namespace.
///
/// It knows the key `lbkey`, which may update the zone, and `idle`, which may not. Everybody on the host may transfer the zone.
#[derive(Debug)]
pub struct NameServer {
    // Dropped before its folder.
    process: Option<Process>,
    namespace: Namespace,
    kind: NameServerKind,
    folder: TempDir,
}

impl NameServer {
    /// Starts a server for `zone` with these records beside those of the zone itself, in the form of a zone file. `algorithm` is
    /// that of its keys.
    ///
    /// # Errors
    /// Fails if the program is missing, or does not answer in time.
    pub fn start(
        kind: NameServerKind,
        namespace: &Namespace,
        zone: &str,
        records: &str,
        algorithm: &str,
    ) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("lb-dns-").context("making a folder for a DNS server")?;
        let path = folder.path();
        let keys: Vec<(&str, String)> = ["lbkey", "idle"]
            .into_iter()
            .map(|name| Ok((name, secret(name, algorithm)?)))
            .collect::<anyhow::Result<_>>()?;
        for (name, secret) in &keys {
            fs::write(
                path.join(format!("{name}.key")),
                key_statement(name, algorithm, secret),
            )?;
        }
        fs::write(
            path.join("zone.db"),
            format!(
                "$ORIGIN {zone}.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 5\n@ NS ns\nns A 192.0.2.53\n{records}\n"
            ),
        )?;
        let text = match kind {
            NameServerKind::Bind => bind_text(path, zone),
            NameServerKind::Knot => knot_text(path, zone, algorithm, &keys),
        };
        fs::write(path.join("server.conf"), text)?;
        Self::start_in(kind, namespace, folder)
    }

    /// Starts BIND with a configuration of its own, in which `FOLDER` stands for its folder. The files are made there before.
    ///
    /// # Errors
    /// See [`NameServer::start`].
    pub fn start_bind_with(
        namespace: &Namespace,
        configuration: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("lb-dns-").context("making a folder for a DNS server")?;
        for (name, text) in files {
            fs::write(folder.path().join(name), text)?;
        }
        let text = format!("{}{configuration}", bind_options(folder.path()));
        let text = text.replace("FOLDER", &folder.path().to_string_lossy());
        fs::write(folder.path().join("server.conf"), text)?;
        Self::start_in(NameServerKind::Bind, namespace, folder)
    }

    fn start_in(
        kind: NameServerKind,
        namespace: &Namespace,
        folder: TempDir,
    ) -> anyhow::Result<Self> {
        let mut server = NameServer {
            process: None,
            namespace: namespace.clone(),
            kind,
            folder,
        };
        server.run()?;
        Ok(server)
    }

    /// Starts it again, with the zone as it was.
    ///
    /// # Errors
    /// See [`NameServer::start`].
    pub fn run(&mut self) -> anyhow::Result<()> {
        let configuration = self.folder.path().join("server.conf");
        let (program, arguments): (_, &[&str]) = match self.kind {
            // -g: in the foreground, with the log on standard error.
            NameServerKind::Bind => ("named", &["-g", "-n", "1"]),
            NameServerKind::Knot => ("knotd", &[]),
        };
        let mut command = self.namespace.command(program);
        command.args(arguments).arg("-c").arg(configuration);
        let mut process = self.namespace.start_command(program, command)?;
        wait_for(program, START, || {
            process.check()?;
            let answer = self.namespace.run([
                "dig",
                "@127.0.0.1",
                "+tries=1",
                "+time=1",
                "+norecurse",
                "version.server.",
                "CH",
                "TXT",
            ])?;
            Ok(answer.contains("status:").then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 53)
    }

    /// Returns the file of a key: `lbkey` or `idle`.
    #[must_use]
    pub fn key_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.key"))
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// Fails if it cannot be waited for.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut process| process.kill())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Fails if it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self
            .process
            .as_ref()
            .context("the DNS server does not run")?;
        process.signal(signal)
    }

    /// Returns the records of a type that it has at a name, sorted.
    ///
    /// # Errors
    /// Fails if it does not answer.
    pub fn records(&self, name: &str, kind: &str) -> anyhow::Result<Vec<String>> {
        let text = self.namespace.run([
            "dig",
            "@127.0.0.1",
            "+tcp",
            "+short",
            "+norecurse",
            name,
            kind,
        ])?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// Returns all records of a zone but its own, sorted, each with single spaces.
    ///
    /// # Errors
    /// Fails if the transfer does.
    pub fn zone(&self, zone: &str) -> anyhow::Result<Vec<String>> {
        let text = self.namespace.run([
            "dig",
            "@127.0.0.1",
            "+nocomments",
            "+nostats",
            "+nocmd",
            zone,
            "AXFR",
        ])?;
        ensure!(text.contains("SOA"), "no transfer: {text}");
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with(';'))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|line| !line.contains(" IN SOA "))
            .collect();
        lines.sort();
        Ok(lines)
    }

    /// Returns the serial number of a zone.
    ///
    /// # Errors
    /// Fails if it does not answer.
    pub fn serial(&self, zone: &str) -> anyhow::Result<u32> {
        let records = self.records(zone, "SOA")?;
        let record = records.first().context("no SOA record")?;
        let serial = record.split(' ').nth(2).context("no serial number")?;
        Ok(serial.parse()?)
    }

    /// Applies an update with `nsupdate`, as somebody else does it: lines such as `add NAME TTL TYPE DATA`.
    ///
    /// # Errors
    /// Fails if the server rejects it.
    pub fn update(&self, lines: &str) -> anyhow::Result<()> {
        let script = self.folder.path().join("update.txt");
        fs::write(&script, format!("server {ADDRESS}\n{lines}\nsend\n"))?;
        let mut command: Command = self.namespace.command("nsupdate");
        command.arg("-k").arg(self.key_file("lbkey")).arg(&script);
        let output = command.output().context("starting nsupdate")?;
        ensure!(output.status.success(), "nsupdate {lines:?}: {output:?}");
        Ok(())
    }
}

/// Makes a secret.
fn secret(name: &str, algorithm: &str) -> anyhow::Result<String> {
    let output = Command::new("tsig-keygen")
        .args(["-a", algorithm, name])
        .output()
        .context("starting tsig-keygen")?;
    ensure!(output.status.success(), "tsig-keygen: {output:?}");
    let text = String::from_utf8(output.stdout)?;
    let (_, rest) = text.split_once("secret \"").context("no secret")?;
    let (secret, _) = rest.split_once('"').context("no secret")?;
    Ok(secret.to_owned())
}

fn key_statement(name: &str, algorithm: &str, secret: &str) -> String {
    format!("key \"{name}\" {{\n\talgorithm {algorithm};\n\tsecret \"{secret}\";\n}};\n")
}

/// The options of a BIND that runs beside others: all its files are in the folder, and it has no control channel.
fn bind_options(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "options {{ directory \"{folder}\"; pid-file none; session-keyfile none; \
         listen-on port 53 {{ {ADDRESS}; }}; listen-on-v6 {{ none; }}; allow-query {{ any; }}; \
         dnssec-validation no; empty-zones-enable no; notify no; }};\ncontrols {{ }};\n"
    )
}

fn bind_text(folder: &Path, zone: &str) -> String {
    format!(
        "{options}include \"{folder}/lbkey.key\";\ninclude \"{folder}/idle.key\";\n\
         zone \"{zone}\" {{ type primary; file \"zone.db\"; allow-transfer {{ {ADDRESS}; }}; \
         update-policy {{ grant lbkey zonesub A AAAA TXT PTR; }}; }};\n",
        options = bind_options(folder),
        folder = folder.display(),
    )
}

fn knot_text(folder: &Path, zone: &str, algorithm: &str, keys: &[(&str, String)]) -> String {
    let folder = folder.display();
    let keys: String = keys
        .iter()
        .map(|(name, secret)| {
            format!("  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}\n")
        })
        .collect();
    format!(
        "server:\n    rundir: {folder}\n    listen: {ADDRESS}@53\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n    storage: {folder}\n\
         key:\n{keys}\
         acl:\n  - id: update\n    key: lbkey\n    action: update\n\
         \x20 - id: transfer\n    address: {ADDRESS}\n    action: transfer\n\
         zone:\n  - domain: {zone}\n    storage: {folder}\n    file: zone.db\n    acl: [update, transfer]\n"
    )
}
