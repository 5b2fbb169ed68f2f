//! An environment of web servers in a project, and the trees of the commands about it.

use std::{
    collections::BTreeSet,
    fs,
    ops::{Deref, DerefMut},
};

use anyhow::{Context as _, ensure};
use lb_tests::{command_tree, wait_for};
use serde_json::Value;

use crate::bed::{Bed, PATIENCE};

/// A web server that answers with the name of its instance.
const SERVER: &str = r#"
use IO::Socket::INET; $| = 1; $SIG{PIPE} = "IGNORE"; my $n = $ENV{LB_INSTANCE};
my $s = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 128, ReuseAddr => 1) or die "listen: $!";
while (1) {
  my $c = $s->accept or next; my $first = <$c> // next;
  while (<$c>) { last if /^\r?$/ }
  print $c "HTTP/1.1 200 OK\r\nx-real: $n\r\nContent-Length: ", length $n, "\r\nConnection: close\r\n\r\n$n"; close $c;
}
"#;

/// A provider with a project `shop` and an environment `site` in it.
pub struct Site(Bed);

impl Deref for Site {
    type Target = Bed;

    fn deref(&self) -> &Bed {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Bed {
        &mut self.0
    }
}

impl Site {
    /// Creates the environment, with these settings.
    pub fn new(name: &str, settings: &str) -> anyhow::Result<Self> {
        let bed = Bed::with(name, 0, |_| String::new())?;
        fs::write(bed.controller.folder().join("server.pl"), SERVER)?;
        bed.run("project add shop quota.balancers=20 quota.nodes=60")?;
        bed.run(&format!("env create shop site {settings}"))?;
        Ok(Site(bed))
    }

    /// The order that adds a member of this role, with web servers from this port on.
    pub fn adding(&self, name: &str, role: &str, port: u16) -> String {
        let script = self.controller.folder().join("server.pl");
        format!(
            "env add shop site {name} role={role} pool.driver.kind=process pool.network.port={port} pool.network.address={} \
             pool.template.program=/usr/bin/perl pool.template.arguments=['{}','{{port}}'] pool.template.stop_grace=1s \
             pool.check.kind=http pool.check.interval=500ms pool.check.fast_interval=100ms pool.scaling.min=1 pool.scaling.max=1",
            self.host.v4,
            script.display()
        )
    }

    /// Has an order done, and returns its tree.
    pub fn order(&self, line: &str) -> anyhow::Result<String> {
        let done = self.read(&format!("{line} --wait 120"));
        let tree = done.with_context(|| self.controller.output())?;
        Ok(command_tree(&tree))
    }

    /// The environment.
    pub fn shown(&self) -> anyhow::Result<Value> {
        self.read("env show shop site")
    }

    /// A member.
    pub fn member(&self, name: &str) -> anyhow::Result<Option<Value>> {
        let shown = self.shown()?;
        let members = shown["members"].as_array().context("no members")?;
        Ok(members.iter().find(|one| one["name"] == name).cloned())
    }

    /// Waits until the load balancer that is this member has its clients served by all of these pools.
    pub fn wait_served(&self, balancer: &str, members: &[&str]) -> anyhow::Result<()> {
        let waited = wait_for("all members to serve clients", PATIENCE, || {
            let member = self.member(balancer)?.context("no such member")?;
            let url = member["url"].as_str().unwrap_or_default();
            let host = url.trim_start_matches("http://").trim_end_matches('/');
            ensure!(!host.is_empty(), "{member}");
            let mut pools = BTreeSet::new();
            for name in members {
                let member = self.member(name)?.context("no such member")?;
                pools.insert(member["object"].as_str().unwrap_or_default().to_owned());
            }
            let mut answers = BTreeSet::new();
            for _ in 0..30 {
                let instance = self.ask(host, 80)?;
                let pool = instance.rsplitn(3, '-').nth(2).unwrap_or_default();
                answers.insert(pool.to_owned());
            }
            ensure!(answers == pools, "{answers:?}, not {pools:?}");
            Ok(Some(()))
        });
        waited.with_context(|| self.controller.output())
    }

    /// Cuts a load balancer's node off from the controller, or connects it again.
    pub fn cut_off(&self, address: &str, is_off: bool) -> anyhow::Result<()> {
        let namespace = self.host.namespace();
        let way = format!("{address}/32");
        if !is_off {
            return namespace.sh(&format!("ip route del {way}")).map(drop);
        }
        // By way of a neighbour that nobody is.
        namespace
            .sh("ip neigh replace 10.10.99.99 lladdr 02:00:00:00:00:99 dev br0 nud permanent")?;
        let line = format!("ip route replace {way} via 10.10.99.99 dev br0 onlink");
        namespace.sh(&line).map(drop)
    }

    /// The newest tree of a command with these words.
    pub fn tree_of(&self, about: &str) -> anyhow::Result<Option<String>> {
        let list = self.read("command list")?;
        let list = list.as_array().context("no list")?;
        let Some(found) = list.iter().rev().find(|one| one["about"] == about) else {
            return Ok(None);
        };
        let tree = self.read(&format!("command show {}", found["id"]))?;
        Ok(Some(command_tree(&tree)))
    }
}
