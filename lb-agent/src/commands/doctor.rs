//! `lb-agent doctor`: examines a real's host. `lbctl doctor` examines a balancer.

use std::{io::Write as _, net::IpAddr};

use anyhow::{Context as _, bail};
use lb_agent::doctor::{self, Examined, RealHostFacts, Severity};

use super::real::{Mode, Vip};

/// Arguments of `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Doctor {
    /// Interface the balancer's packets come in by, as for `lb-agent real`; may be repeated
    #[arg(long, value_name = "IFACE", required = true, num_args = 1..)]
    iface: Vec<String>,

    /// VIP this host is to serve, as for `lb-agent real`; may be repeated
    #[arg(long, value_name = "VIP", required = true, num_args = 1..)]
    vip: Vec<Vip>,

    /// How the balancer's packets reach this host
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
}

impl Doctor {
    pub fn execute(self) -> anyhow::Result<()> {
        let vips: Vec<IpAddr> = self.vip.iter().map(|vip| vip.0).collect();
        let facts = RealHostFacts::read(vips, &self.iface, !matches!(self.mode, Mode::L2))
            .context("reading the addresses of the loopback interface")?;
        let examined = doctor::examine(doctor::REAL, &facts);
        let problems = examined
            .iter()
            .flat_map(|check| &check.findings)
            .filter(|finding| finding.severity == Severity::Problem)
            .count();
        // Whoever has closed the pipe wants no more.
        let _ = std::io::stdout().write_all(text(&examined).as_bytes());
        match problems {
            0 => Ok(()),
            1 => bail!("1 problem was found"),
            problems => bail!("{problems} problems were found"),
        }
    }
}

/// The findings, each with the command that mends it. `lbctl doctor` prints those of a balancer in the same way.
fn text(examined: &[Examined]) -> String {
    let mut text = String::new();
    for check in examined {
        if check.findings.is_empty() {
            text += &format!("ok       {}: {}\n", check.name, check.examines);
        }
        for finding in &check.findings {
            let object = match &*finding.object {
                "" => String::new(),
                object => format!("{object}: "),
            };
            text += &format!(
                "{:<8} {}: {object}{}\n         mend: {}\n",
                finding.severity.name(),
                check.name,
                finding.seen,
                finding.mend
            );
        }
    }
    text
}
