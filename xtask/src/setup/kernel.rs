//! Features of the running kernel.

use std::path::Path;

use anyhow::bail;
use lb_tests::{Namespace, Switch};

use super::Prerequisite;
use crate::command;

pub(super) struct Kernel;

impl Prerequisite for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn why(&self) -> &'static str {
        "the programs are loaded with type information (CONFIG_DEBUG_INFO_BTF), and testbeds are made of \
         network namespaces, veth and bridge"
    }

    fn check(&self) -> Result<String, String> {
        let release = command::ask("uname", &["-r"]).unwrap_or_else(|| "unknown".to_owned());
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            return Err(format!("{release} has no BTF (/sys/kernel/btf/vmlinux)"));
        }
        network().map_err(|error| {
            format!("{release} cannot make the networks of a testbed: {error:#}")
        })?;
        Ok(format!(
            "{release}, with BTF, network namespaces, veth and bridge"
        ))
    }

    fn provide(&self) -> anyhow::Result<()> {
        bail!(
            "boot a kernel with these features, for example the distribution's own; they cannot be added to this one"
        )
    }
}

fn network() -> anyhow::Result<()> {
    let switch = Switch::new("trial")?;
    let host = Namespace::new("trial host")?;
    switch.plug(
        &host,
        "eth0",
        &["10.0.0.1/24".to_owned(), "fd00::1/64".to_owned()],
    )?;
    Ok(())
}
