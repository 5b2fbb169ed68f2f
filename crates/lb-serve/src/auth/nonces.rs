//! Nonces of challenges, with the counts that were used with them.
//!
//! A nonce says when it was issued and is signed, so challenges cost no memory, however many are asked for. What is
//! remembered are the counts of nonces with which somebody has proved who it is. A key that is made at each start makes
//! nonces of an earlier run invalid, so nothing can be replayed over a restart.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;

use super::random;

/// How long a nonce can be used. A client that knows its user's password gets the next one without asking its user
/// (`stale`).
pub const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Nonces whose counts are remembered at most.
const MAX_USED: usize = 16_384;
/// How far behind the highest count another one may be: requests over several connections overtake each other.
const BEHIND: u32 = 64;
/// Bytes of the time of issue, of random numbers, and of the signature.
const TIME: usize = 8;
const SALT: usize = 8;
const SIGNATURE: usize = 16;

/// What a nonce and its count are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be used, and now counts as used.
    Fresh,
    /// It was ours and is too old; the client is to take another one.
    Stale,
    /// It was used with this count before, or with much higher ones.
    Replayed,
    /// It is not ours.
    Unknown,
}

/// The counts that were used with a nonce.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    highest: u32,
    /// The counts below the highest: bit N stands for `highest - N`.
    below: u64,
}

impl Used {
    /// Whether this count was not used; it is from then on.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.below = self.below.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        if behind >= BEHIND || self.below & (1 << behind) != 0 {
            return false;
        }
        self.below |= 1 << behind;
        true
    }
}

#[derive(Debug, Default)]
struct Memory {
    used: HashMap<u64, Used>,
    /// The same by time of issue, milliseconds, and salt.
    by_time: BTreeMap<(u64, u64), ()>,
    /// Nonces of this time, in milliseconds, and older ones are stale: the counts of some were forgotten for want of room.
    forgotten: Option<u64>,
}

/// Issues nonces, and says what they are worth. Times count from a start of the caller's choice.
#[derive(Debug)]
pub struct Nonces {
    key: hmac::Key,
    memory: Mutex<Memory>,
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new()
    }
}

impl Nonces {
    /// None yet, by a key of their own.
    #[must_use]
    pub fn new() -> Self {
        Nonces {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()),
            memory: Mutex::default(),
        }
    }

    /// A new nonce: letters, digits, `-` and `_`.
    #[must_use]
    pub fn issue(&self, now: Duration) -> String {
        let mut bytes = Vec::with_capacity(TIME + SALT + SIGNATURE);
        bytes.extend(milliseconds(now).to_be_bytes());
        bytes.extend(random::<SALT>());
        let signature = hmac::sign(&self.key, &bytes);
        bytes.extend(&signature.as_ref()[..SIGNATURE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Time of issue and salt of a nonce of ours.
    fn read(&self, nonce: &str) -> Option<(u64, u64)> {
        use subtle::ConstantTimeEq as _;
        let bytes = URL_SAFE_NO_PAD.decode(nonce).ok()?;
        let (content, signature) = bytes.split_at_checked(TIME + SALT)?;
        let expected = hmac::sign(&self.key, content);
        let is_ours: bool = expected.as_ref()[..SIGNATURE].ct_eq(signature).into();
        let (time, salt) = content.split_at(TIME);
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        if is_ours {
            number(time).zip(number(salt))
        } else {
            None
        }
    }

    /// Takes a nonce with its count. Call this once it is proved that the caller knows the password, or anybody could use up
    /// counts and memory.
    #[must_use]
    pub fn take(&self, nonce: &str, count: u32, now: Duration) -> Verdict {
        let Some((issued, salt)) = self.read(nonce) else {
            return Verdict::Unknown;
        };
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = milliseconds(now).saturating_sub(milliseconds(NONCE_LIFE));
        memory.expire(oldest);
        if issued < oldest || memory.forgotten.is_some_and(|time| issued <= time) {
            return Verdict::Stale;
        }
        if !memory.used.contains_key(&salt) && memory.used.len() >= MAX_USED {
            memory.forget_oldest();
            if memory.forgotten.is_some_and(|time| issued <= time) {
                return Verdict::Stale;
            }
        }
        memory.by_time.insert((issued, salt), ());
        if memory.used.entry(salt).or_default().take(count) {
            Verdict::Fresh
        } else {
            Verdict::Replayed
        }
    }

    /// Whether a nonce is ours and can be used; this changes nothing.
    #[must_use]
    pub fn look(&self, nonce: &str, now: Duration) -> Verdict {
        let oldest = milliseconds(now).saturating_sub(milliseconds(NONCE_LIFE));
        match self.read(nonce) {
            None => Verdict::Unknown,
            Some((issued, _)) if issued < oldest => Verdict::Stale,
            Some(_) => Verdict::Fresh,
        }
    }
}

impl Memory {
    fn expire(&mut self, oldest: u64) {
        while let Some(entry) = self.by_time.first_entry()
            && entry.key().0 < oldest
        {
            let ((_, salt), ()) = entry.remove_entry();
            self.used.remove(&salt);
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(((issued, salt), ())) = self.by_time.pop_first() {
            self.used.remove(&salt);
            self.forgotten = Some(issued);
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn a_count_is_taken_once() {
        let nonces = Nonces::new();
        let nonce = nonces.issue(NOW);
        for (count, verdict) in [
            (1, Verdict::Fresh),
            (1, Verdict::Replayed),
            (3, Verdict::Fresh),
            (2, Verdict::Fresh),
            (2, Verdict::Replayed),
            (1, Verdict::Replayed),
            (200, Verdict::Fresh),
            (4, Verdict::Replayed),
            (150, Verdict::Fresh),
            (u32::MAX, Verdict::Fresh),
            (200, Verdict::Replayed),
        ] {
            assert_eq!(nonces.take(&nonce, count, NOW), verdict, "{count}");
        }
        assert_eq!(nonces.take(&nonces.issue(NOW), 1, NOW), Verdict::Fresh);
    }

    #[test]
    fn a_nonce_ends_and_those_of_others_are_unknown() {
        let nonces = Nonces::new();
        let nonce = nonces.issue(NOW);
        assert_eq!(nonces.take(&nonce, 1, NOW + NONCE_LIFE), Verdict::Fresh);
        let late = NOW + NONCE_LIFE + Duration::from_millis(1);
        assert_eq!(nonces.take(&nonce, 2, late), Verdict::Stale);
        assert_eq!(nonces.look(&nonce, late), Verdict::Stale);
        assert!(nonces.memory.lock().unwrap().used.is_empty());
        let other = Nonces::new().issue(NOW);
        for wrong in [other.as_str(), "", "x", &nonce[1..], "\u{e9}"] {
            assert_eq!(nonces.take(wrong, 1, NOW), Verdict::Unknown, "{wrong}");
        }
        let mut forged = nonce.into_bytes();
        forged[3] ^= 1;
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(nonces.take(&forged, 1, NOW), Verdict::Unknown);
    }

    #[test]
    fn what_is_forgotten_cannot_be_replayed() {
        let nonces = Nonces::new();
        let first = nonces.issue(NOW);
        assert_eq!(nonces.take(&first, 1, NOW), Verdict::Fresh);
        let later = NOW + Duration::from_millis(1);
        for _ in 0..MAX_USED {
            assert_eq!(nonces.take(&nonces.issue(later), 1, later), Verdict::Fresh);
        }
        assert_eq!(nonces.take(&first, 1, later), Verdict::Stale);
        assert!(nonces.memory.lock().unwrap().used.len() <= MAX_USED);
    }

    proptest! {
        #[test]
        fn no_count_is_taken_twice(counts in prop::collection::vec(1_u32..200, 0..300)) {
            let nonces = Nonces::new();
            let nonce = nonces.issue(NOW);
            let mut taken = HashSet::new();
            for count in counts {
                if nonces.take(&nonce, count, NOW) == Verdict::Fresh {
                    prop_assert!(taken.insert(count));
                }
            }
        }
    }
}
