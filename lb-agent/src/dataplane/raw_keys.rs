//! The keys of the VIP tables as the kernel's maps have them: bytes.

use lb_common::tables::vip::{Vip4Key, Vip6Key};

pub(super) fn key4(key: &Vip4Key) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&key.address);
    bytes[4..6].copy_from_slice(&key.port);
    bytes[6] = key.protocol;
    bytes
}

pub(super) fn key6(key: &Vip6Key) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.address);
    bytes[16..18].copy_from_slice(&key.port);
    bytes[18] = key.protocol;
    bytes
}

pub(super) fn from4(bytes: [u8; 8]) -> Vip4Key {
    let [a, b, c, d, e, f, protocol, pad] = bytes;
    Vip4Key {
        address: [a, b, c, d],
        port: [e, f],
        protocol,
        pad,
    }
}

pub(super) fn from6(bytes: [u8; 20]) -> Vip6Key {
    let mut address = [0; 16];
    address.copy_from_slice(&bytes[..16]);
    Vip6Key {
        address,
        port: [bytes[16], bytes[17]],
        protocol: bytes[18],
        pad: bytes[19],
    }
}
