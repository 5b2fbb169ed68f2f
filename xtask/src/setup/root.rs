//! Root privileges.

use anyhow::bail;

use super::Prerequisite;

pub(super) struct Root;

impl Prerequisite for Root {
    fn name(&self) -> &'static str {
        "root"
    }

    fn why(&self) -> &'static str {
        "only root may load XDP programs and create network namespaces"
    }

    fn check(&self) -> Result<String, String> {
        if nix::unistd::geteuid().is_root() {
            Ok("yes".to_owned())
        } else {
            Err("you are not root".to_owned())
        }
    }

    fn provide(&self) -> anyhow::Result<()> {
        bail!("run this in a root shell (`sudo -i`), with rustup installed for root as well")
    }
}
