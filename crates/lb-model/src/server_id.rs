//! Server ids: what of a client's packet names the real that it is for, and the numbers of the reals.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use lb_common::tables::{
    server_id::{MAX_ID_AND_NONCE, MAX_ID_BYTES, MIN_NONCE, NO_CONFIG, QuicLb},
    service::{ID_QUIC_KATRAN, ID_QUIC_LB, ID_TCP_OPTION, ID_UDP_STABLE},
};

use crate::settings::{FieldError, SettingType, Type, Value, plain};

crate::choice! {
    /// Where a client's packets name the real that they are for.
    pub enum ServerIdMethod = QuicLb {
        /// In the connection id of QUIC, as of draft-ietf-quic-load-balancers, plain or encrypted: see `quic_lb`.
        QuicLb = "quic-lb",
        /// In the connection id of QUIC, in one of the three ways of Katran's servers.
        QuicKatran = "quic-katran",
        /// In a datagram of UDP that begins with 0x52: in the three bytes behind.
        UdpStable = "udp-stable",
        /// In TCP's option 0xB7 of segments that are no SYN.
        TcpOption = "tcp-option",
    }
}

impl ServerIdMethod {
    /// The bit of a service's record that says it to the data path.
    #[must_use]
    pub const fn flag(self) -> u32 {
        match self {
            ServerIdMethod::QuicLb => ID_QUIC_LB,
            ServerIdMethod::QuicKatran => ID_QUIC_KATRAN,
            ServerIdMethod::UdpStable => ID_UDP_STABLE,
            ServerIdMethod::TcpOption => ID_TCP_OPTION,
        }
    }

    /// Whether it is about TCP; the others are about UDP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, ServerIdMethod::TcpOption)
    }

    /// Bits of the largest id; `None` if settings decide.
    #[must_use]
    pub const fn bits(self) -> Option<u32> {
        match self {
            ServerIdMethod::QuicLb => None,
            ServerIdMethod::UdpStable => Some(24),
            ServerIdMethod::QuicKatran | ServerIdMethod::TcpOption => Some(32),
        }
    }
}

/// The number by which packets name a real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u128);

impl ServerId {
    /// Bits of the number, without leading zeros.
    #[must_use]
    pub const fn bits(self) -> u32 {
        128 - self.0.leading_zeros()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for ServerId {
    type Err = String;

    fn from_str(text: &str) -> Result<ServerId, String> {
        let number = match text.strip_prefix("0x") {
            Some(hex) if !hex.starts_with('+') => u128::from_str_radix(hex, 16),
            Some(_) => return Err(advice()),
            None => text.parse(),
        };
        number
            .ok()
            .map(ServerId)
            .filter(|id| id.bits() <= MAX_ID_BYTES * 8)
            .ok_or_else(advice)
    }
}

fn advice() -> String {
    format!("give a number of {MAX_ID_BYTES} bytes at most, such as 17 or 0x11")
}

impl SettingType for ServerId {
    type Bound = ();

    fn describe() -> Type {
        Type::Text("number, or `0x` and hexadecimal digits")
    }

    fn from_json(value: &Value) -> Result<ServerId, FieldError> {
        let text = plain(value);
        text.parse()
            .map_err(|advice: String| FieldError::new("", &text, advice))
    }

    fn to_json(&self) -> Value {
        Value::String(self.to_string())
    }

    fn is_within(&self, _range: &RangeInclusive<()>) -> bool {
        true
    }

    fn bound_text((): &()) -> String {
        String::new()
    }
}

/// How connection ids of one configuration of QUIC-LB are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicLbConfig {
    /// The three highest bits of the connection id, which say that it is of this configuration; 0 to 6.
    pub config: u32,
    /// Bytes of the server id.
    pub id_bytes: u32,
    /// Bytes of the nonce.
    pub nonce_bytes: u32,
    /// The key; without one connection ids are plain.
    pub key: Option<[u8; 16]>,
}

impl QuicLbConfig {
    /// What the data path needs.
    #[must_use]
    pub const fn record(&self) -> QuicLb {
        QuicLb::new(self.id_bytes, self.nonce_bytes, self.key)
    }
}

impl fmt::Display for QuicLbConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.config, self.id_bytes, self.nonce_bytes)?;
        if let Some(key) = self.key {
            write!(f, ":{:032x}", u128::from_be_bytes(key))?;
        }
        Ok(())
    }
}

impl FromStr for QuicLbConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<QuicLbConfig, String> {
        let form = "give CONFIG:ID:NONCE or CONFIG:ID:NONCE:KEY, such as 0:4:8 or \
                    0:4:12:8f95f09245765f80256934e50c66207f";
        let mut parts = text.split(':');
        let mut number = || parts.next()?.parse::<u32>().ok();
        let (Some(config), Some(id_bytes), Some(nonce_bytes)) = (number(), number(), number())
        else {
            return Err(form.to_owned());
        };
        let key = match parts.next() {
            None => None,
            Some(key) if key.len() == 32 && key.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u128::from_str_radix(key, 16).ok().map(u128::to_be_bytes)
            }
            Some(_) => return Err("the key has 16 bytes, give 32 hexadecimal digits".to_owned()),
        };
        if parts.next().is_some() {
            return Err(form.to_owned());
        }
        if config >= NO_CONFIG {
            return Err(format!(
                "a configuration has a number from 0 to {}",
                NO_CONFIG - 1
            ));
        }
        let fits = (1..=MAX_ID_BYTES).contains(&id_bytes)
            && (MIN_NONCE..=MAX_ID_AND_NONCE).contains(&nonce_bytes)
            && id_bytes + nonce_bytes <= MAX_ID_AND_NONCE;
        if !fits {
            return Err(format!(
                "an id has 1 byte at least, a nonce {MIN_NONCE}, both together {MAX_ID_AND_NONCE} at most"
            ));
        }
        Ok(QuicLbConfig {
            config,
            id_bytes,
            nonce_bytes,
            key,
        })
    }
}

crate::text_setting!(QuicLbConfig, "`CONFIG:ID:NONCE[:KEY]`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_both_bases_and_written_in_one() {
        for (text, number) in [
            ("17", 17),
            ("0x11", 17),
            ("0", 0),
            ("0xFFffFFff", 0xFFFF_FFFF),
        ] {
            assert_eq!(text.parse(), Ok(ServerId(number)), "{text}");
        }
        assert_eq!(ServerId(17).to_string(), "0x11");
        assert_eq!(ServerId::from_json(&Value::from(17)), Ok(ServerId(17)));
        let largest = format!("0x{}", "f".repeat(30));
        assert!(largest.parse::<ServerId>().is_ok());
        let larger = format!("0x1{}", "0".repeat(30));
        for text in ["", "0x", "0x+1", "x", "-1", "1.5", &larger] {
            assert!(text.parse::<ServerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn configurations_are_written_as_they_are_read() {
        for text in ["0:1:4", "6:15:4", "2:8:8:8f95f09245765f80256934e50c66207f"] {
            let config: QuicLbConfig = text.parse().unwrap();
            assert_eq!(config.to_string(), text);
        }
        for text in [
            "",
            "0",
            "0:4",
            "7:4:4",
            "0:0:4",
            "0:4:3",
            "0:10:10",
            "0:4:8:",
            "0:4:8:ab",
            "0:4:8:+f95f09245765f80256934e50c66207f",
            "0:4:8:8f95f09245765f80256934e50c66207f:",
            "a:4:8",
            "0:4294967295:4294967295",
        ] {
            assert!(text.parse::<QuicLbConfig>().is_err(), "{text}");
        }
    }
}
