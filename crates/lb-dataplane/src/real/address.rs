//! Addresses of the loopback interface, by netlink.

use std::net::IpAddr;

use anyhow::Context as _;
use futures::TryStreamExt as _;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec,
    packet_route::{
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
        link::LinkFlags,
    },
};

use super::journal::{Change, Journal};

/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;

/// A netlink connection of this network namespace. It lives as long as the value.
pub(super) struct Connection {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(super) fn open() -> anyhow::Result<Connection> {
        let (connection, handle, _) =
            rtnetlink::new_connection().context("opening a netlink socket")?;
        Ok(Connection {
            handle,
            task: tokio::spawn(connection),
        })
    }

    /// Returns when the task that talks to the kernel has ended.
    pub(super) async fn ended(&mut self) {
        // Its result is of no interest: it never ends by itself.
        let _ = (&mut self.task).await;
    }

    /// Brings the loopback interface up: while it is down, its addresses have no effect.
    pub(super) async fn loopback_up(&self, journal: &mut Journal) -> anyhow::Result<()> {
        let mut links = self.handle.link().get().match_index(LOOPBACK).execute();
        let link = links
            .try_next()
            .await
            .context("examining the loopback interface")?;
        if link.is_some_and(|link| link.header.flags.contains(LinkFlags::Up)) {
            return Ok(());
        }
        journal.record(Change::LoopbackUp)?;
        let up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(LOOPBACK)
            .up()
            .build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .context("bringing the loopback interface up (this needs root)")
    }

    pub(super) async fn loopback_down(&self) -> anyhow::Result<()> {
        let down = LinkMessageBuilder::<LinkUnspec>::new()
            .index(LOOPBACK)
            .down()
            .build();
        self.handle
            .link()
            .set(down)
            .execute()
            .await
            .context("bringing the loopback interface down again")
    }

    /// Adds an address to the loopback interface; an address that is there already is left as it is, now and
    /// on exit.
    pub(super) async fn add(&self, journal: &mut Journal, address: IpAddr) -> anyhow::Result<()> {
        if self.has(address).await? {
            return Ok(());
        }
        journal.record(Change::Address { address })?;
        let mut request = self
            .handle
            .address()
            .add(LOOPBACK, address, prefix(address));
        if address.is_ipv6() {
            // No other host can have the address on this link, and it must work at once.
            let message = request.message_mut();
            message.header.flags = AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request.execute().await.with_context(|| {
            format!("adding {address} to the loopback interface (this needs root)")
        })
    }

    /// Removes an address from the loopback interface, if it is there.
    pub(super) async fn remove(&self, address: IpAddr) -> anyhow::Result<()> {
        for message in self.find(address).await? {
            match self.handle.address().del(message).execute().await {
                Err(error) if errno(&error) == Some(libc::EADDRNOTAVAIL) => {}
                other => {
                    other.with_context(|| {
                        format!("removing {address} from the loopback interface")
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whether the loopback interface has an address.
    pub(super) async fn has(&self, address: IpAddr) -> anyhow::Result<bool> {
        Ok(!self.find(address).await?.is_empty())
    }

    /// The address (as a prefix of one) on the loopback interface.
    async fn find(&self, address: IpAddr) -> anyhow::Result<Vec<AddressMessage>> {
        self.handle
            .address()
            .get()
            .set_link_index_filter(LOOPBACK)
            .set_address_filter(address)
            .set_prefix_length_filter(prefix(address))
            .execute()
            .try_collect()
            .await
            .context("listing the addresses of the loopback interface")
    }
}

/// The length of a prefix that is one address.
const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The kernel's error number, if the error came from the kernel.
fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.code.map(|code| code.get().abs()),
        _ => None,
    }
}
