//! Taking the outer header off a packet that reaches the balancer in a tunnel. What comes out is decided on like any
//! other packet: it is balanced, or passed to the host.

use crate::{
    decap::{Reason, Vips, decapsulate},
    frame::{Fields as _, Frame},
    lookup::Tables,
    tables::vip::TUNNEL_END,
    vip_table::{self, PackedVipKey},
};

/// The configured addresses at which tunnels end.
struct Ends<'a, T>(&'a T);

impl<T: Tables> Vips for Ends<'_, T> {
    #[inline(always)]
    fn ends4(&self, outer: &[u8; 4]) -> bool {
        let key = PackedVipKey::v4(outer.u32_at::<0>(), 0, TUNNEL_END as u32);
        vip_table::look_up(&self.0.vip_hash(), &key, |bucket| self.0.vips4(bucket)).is_some()
    }

    #[inline(always)]
    fn ends6(&self, outer: &[u8; 16]) -> bool {
        let address = [outer.u64_at::<0>(), outer.u64_at::<8>()];
        let digest = self.0.address_digest();
        let key = PackedVipKey::v6(&digest, address, 0, TUNNEL_END as u32);
        vip_table::look_up(&self.0.vip_hash(), &key, |bucket| self.0.vips6(bucket)).is_some()
    }

    /// The inner packet may be for anybody.
    #[inline(always)]
    fn has4(&self, _: &[u8; 4]) -> bool {
        true
    }

    #[inline(always)]
    fn has6(&self, _: &[u8; 16]) -> bool {
        true
    }

    #[inline(always)]
    fn gue_port(&self) -> u16 {
        self.0.gue_port()
    }
}

/// What became of a frame that may end its tunnel here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Ended {
    /// It came in no tunnel that ends here, and is unchanged.
    No = 0,
    /// It is the inner packet.
    Yes = 1,
    /// It is to be dropped: congestion was marked on an outer header, and the inner packet cannot carry the mark
    /// (RFC 6040 section 4.2).
    Congested = 2,
}

/// Takes the outer header off a frame, if its tunnel ends here.
///
/// A function of its own: it is not a part of a program that has no tunnels.
#[inline(always)]
pub fn end<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Ended {
    match number(frame, tables) {
        0 => Ended::No,
        1 => Ended::Yes,
        _ => Ended::Congested,
    }
}

#[inline(never)]
fn number<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> u32 {
    let frame = core::hint::black_box(frame);
    let ended = match decapsulate(frame, &Ends(tables)) {
        Reason::Ip4InIp4
        | Reason::Ip6InIp4
        | Reason::Ip4InIp6
        | Reason::Ip6InIp6
        | Reason::Ip4InGue4
        | Reason::Ip6InGue4
        | Reason::Ip4InGue6
        | Reason::Ip6InGue6 => Ended::Yes,
        Reason::Congestion => Ended::Congested,
        _ => Ended::No,
    };
    ended as u32
}
