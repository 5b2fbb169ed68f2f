//! Writes packets as pcapng (draft-ietf-opsawg-pcapng), which Wireshark, tshark and tcpdump read.
//!
//! Three kinds of blocks are all that is needed; numbers are in the machine's byte order, which the first block tells.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// Kinds of blocks.
const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
/// Tells the byte order.
const BYTE_ORDER: u32 = 0x1A2B_3C4D;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// Options. Their numbers depend on the block.
const COMMENT: u16 = 1;
const PACKET_FLAGS: u16 = 2;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const SECTION_APPLICATION: u16 = 4;

/// The direction of a packet: the lowest bits of its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// It came in.
    In = 1,
    /// It went out.
    Out = 2,
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of its interface, in the order in which they were given.
    pub interface: u32,
    /// Its time.
    pub time: SystemTime,
    /// Its bytes, or the first of them.
    pub bytes: &'a [u8],
    /// Its length.
    pub length: u32,
    /// Whether it came in or went out.
    pub direction: Direction,
    /// What is said of it.
    pub comment: &'a str,
}

/// Writes a file.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// Begins a file with packets of Ethernet interfaces with these names.
    ///
    /// # Errors
    /// As the output's.
    pub fn new(output: W, interfaces: &[String]) -> io::Result<Writer<W>> {
        let mut writer = Writer { output };
        let mut body = Vec::new();
        body.extend(BYTE_ORDER.to_ne_bytes());
        // Version 1.0, and a section of unknown length.
        body.extend(1_u16.to_ne_bytes());
        body.extend(0_u16.to_ne_bytes());
        body.extend((-1_i64).to_ne_bytes());
        option(&mut body, SECTION_APPLICATION, b"lbctl");
        end_of_options(&mut body);
        writer.block(SECTION_HEADER, &body)?;
        for name in interfaces {
            let mut body = Vec::new();
            body.extend(ETHERNET.to_ne_bytes());
            body.extend(0_u16.to_ne_bytes());
            // No limit of a packet's length.
            body.extend(0_u32.to_ne_bytes());
            option(&mut body, INTERFACE_NAME, name.as_bytes());
            // Times are in units of 10^-9 s.
            option(&mut body, INTERFACE_RESOLUTION, &[9]);
            end_of_options(&mut body);
            writer.block(INTERFACE_DESCRIPTION, &body)?;
        }
        writer.flush()?;
        Ok(writer)
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// As the output's.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let since = packet.time.duration_since(SystemTime::UNIX_EPOCH);
        let time = since.as_ref().map_or(0, Duration::as_nanos) as u64;
        let mut body = Vec::with_capacity(packet.bytes.len() + packet.comment.len() + 64);
        body.extend(packet.interface.to_ne_bytes());
        body.extend(((time >> 32) as u32).to_ne_bytes());
        body.extend((time as u32).to_ne_bytes());
        // A frame has less than 2^32 bytes.
        body.extend((packet.bytes.len() as u32).to_ne_bytes());
        body.extend(packet.length.to_ne_bytes());
        body.extend(packet.bytes);
        pad(&mut body);
        option(&mut body, COMMENT, packet.comment.as_bytes());
        option(
            &mut body,
            PACKET_FLAGS,
            &(packet.direction as u32).to_ne_bytes(),
        );
        end_of_options(&mut body);
        self.block(ENHANCED_PACKET, &body)
    }

    /// Has the output deliver what was written.
    ///
    /// # Errors
    /// As the output's.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        // Kind, and the length at both ends.
        let length = (body.len() as u32 + 12).to_ne_bytes();
        self.output.write_all(&kind.to_ne_bytes())?;
        self.output.write_all(&length)?;
        self.output.write_all(body)?;
        self.output.write_all(&length)
    }
}

/// Fills up to a multiple of four bytes.
fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Appends an option. What is longer than an option can be is cut.
fn option(body: &mut Vec<u8>, number: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(number.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end_of_options(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file: kind and body, with both lengths checked.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let length = word(&file[4..]) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&file[length - 4..]) as usize, length);
            blocks.push((word(file), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    #[test]
    fn a_file_has_a_header_interfaces_and_packets() {
        let mut file = Vec::new();
        let names = ["eth0".to_owned(), "eth1".to_owned()];
        let mut writer = Writer::new(&mut file, &names).unwrap();
        writer
            .packet(&Packet {
                interface: 1,
                time: SystemTime::UNIX_EPOCH + Duration::from_nanos(5 << 32 | 7),
                bytes: &[1, 2, 3, 4, 5],
                length: 60,
                direction: Direction::Out,
                comment: "out",
            })
            .unwrap();
        let blocks = blocks(&file);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [
                SECTION_HEADER,
                INTERFACE_DESCRIPTION,
                INTERFACE_DESCRIPTION,
                ENHANCED_PACKET
            ]
        );
        let words = |bytes: &[u32]| -> Vec<u8> {
            bytes.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        let mut expected = words(&[1, 5, 7, 5, 60]);
        expected.extend([1, 2, 3, 4, 5, 0, 0, 0]);
        expected.extend([1_u16.to_ne_bytes(), 3_u16.to_ne_bytes()].concat());
        expected.extend(b"out\0");
        expected.extend([2_u16.to_ne_bytes(), 4_u16.to_ne_bytes()].concat());
        expected.extend(words(&[2, 0]));
        assert_eq!(blocks[3].1, expected);
    }
}
