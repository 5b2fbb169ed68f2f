//! Looking after a real: what others take away from it is noticed and restored.

use std::net::IpAddr;

use super::{setup::Real, sysctl};

impl Real {
    /// Looks after interfaces, programs, addresses and settings. Returns what is wrong now, for the operator; what was
    /// restored is logged. Call it about once a second.
    pub async fn look_after(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        let note = |result: anyhow::Result<()>, problems: &mut Vec<String>| {
            problems.extend(result.err().map(|error| format!("{error:#}")));
        };
        note(self.keep_silence(), &mut problems);
        note(self.keep_addresses().await, &mut problems);
        self.keep_interfaces(&mut problems);
        note(self.follow_mtu(), &mut problems);
        let wrong = self.checksums.grown();
        if wrong > 0 && self.options.mode.is_tunnel() {
            tracing::warn!(
                "{wrong} segments or datagrams for this host had a wrong checksum and were dropped: a sender on the same \
                 machine leaves checksums to a device that does not compute them; `ethtool -K INTERFACE tx off` at the \
                 sender"
            );
        }
        problems
    }

    fn keep_silence(&mut self) -> anyhow::Result<()> {
        if !self.vips.iter().any(IpAddr::is_ipv4) {
            return Ok(());
        }
        for (name, least) in sysctl::SILENCE {
            if sysctl::raise_all(&mut self.journal, name, least)? {
                tracing::warn!(
                    "net.ipv4.conf.all.{name} was changed by somebody else; it is {least} again, because neighbours must \
                     not hear of the VIPs"
                );
            }
        }
        Ok(())
    }

    async fn keep_addresses(&mut self) -> anyhow::Result<()> {
        for vip in &self.vips {
            if !self.netlink.has(*vip).await? {
                tracing::warn!(
                    "{vip} was removed from the loopback interface by somebody else; it is added again"
                );
                self.netlink.add(&mut self.journal, *vip).await?;
            }
        }
        Ok(())
    }

    /// Attaches where an interface is back or its program was detached.
    fn keep_interfaces(&mut self, problems: &mut Vec<String>) {
        for at in 0..self.ports.len() {
            if let Some(index) = self.ports[at].interface.examine(&mut self.requests) {
                let attached = self.attach(at, index);
                let interface = &mut self.ports[at].interface;
                match attached {
                    Ok(()) => tracing::warn!("{} is a real's interface again", interface.name),
                    Err(error) => interface.failed(index, format!("{error:#}")),
                }
            }
            let interface = &self.ports[at].interface;
            if let Some(reason) = interface.reason() {
                problems.push(format!(
                    "the balancer's packets are not taken on {}: {reason}",
                    interface.name
                ));
            }
        }
    }

    /// Adapts the announced segment size to the interfaces' MTUs.
    fn follow_mtu(&mut self) -> anyhow::Result<()> {
        let smallest = self.smallest_mtu()?;
        for programs in self
            .ports
            .iter_mut()
            .filter_map(|port| port.programs.as_mut())
        {
            programs.set_mtu(smallest)?;
        }
        Ok(())
    }
}
