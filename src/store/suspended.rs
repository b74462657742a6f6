//! What the operator has suspended, durably: the file `suspended`.
//!
//! | line | what |
//! |---|---|
//! | 1 | `raida suspensions, format 1, crc32c ` and 8 hex digits: the CRC-32C of everything after this line |
//! | 2.. | JSON: [`Suspended`] |
//!
//! The file is replaced whole, and is durable before anybody is told that something is suspended or free again. No file:
//! nothing ever was. A file that is not whole keeps a node from starting: what is held must not come free unnoticed.
//!
//! No locker's key is in it: see [`Held`].

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::files;
use super::storage::Storage;
use crate::coin::TradeCoin;

/// How many holds there may be: they fit into a backup, whatever their reasons are.
pub const HOLDS_MAX: usize = 10_000;

const HEAD: &str = "raida suspensions, format 1, crc32c ";

/// What a hold is on. No secret can be told from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// The locker of the key with this hash: the first bytes of SHA-256("raida held locker" ‖ salt ‖ key).
    Locker(#[serde(with = "hex")] [u8; 16]),
    /// The trade locker of this public identifier: the hashed one, whatever lists show.
    TradeLocker(#[serde(with = "hex")] [u8; 16]),
}

impl Held {
    /// A few hex digits that tell it from other holds: of a locker those of its salted hash, of a trade locker those of its
    /// identifier.
    pub fn fingerprint(&self) -> String {
        let (Self::Locker(bytes) | Self::TradeLocker(bytes)) = self;
        bytes[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Who did something: a process that asked over the node's socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Its user.
    pub uid: u32,
    /// Its number.
    pub pid: i32,
}

/// Why something is suspended, since when, by whom.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// Why, in the operator's words.
    pub reason: String,
    /// Since when, milliseconds since 1970-01-01 UTC.
    pub since_unix_ms: u64,
    /// By whom.
    pub by: Who,
}

/// A locker or trade locker that is held.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub held: Held,
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// A coin type whose market is paused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pause {
    /// Which.
    pub coin: TradeCoin,
    /// Why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// Everything that is suspended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Suspended {
    /// What the hashes of lockers are salted with: random, the same as long as there is the file.
    #[serde(with = "hex")]
    pub salt: [u8; 16],
    /// What is held, the eldest first.
    pub holds: Vec<Hold>,
    /// Which markets are paused.
    pub pauses: Vec<Pause>,
}

impl Suspended {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`], or what the storage fails with.
    pub fn load(storage: &dyn Storage) -> Result<Option<Self>, StoreError> {
        let Some(bytes) = storage.read_whole(files::SUSPENDED)? else { return Ok(None) };
        let damaged = |why| StoreError::DamagedFile { path: files::SUSPENDED.to_string(), why };
        Self::decode(&bytes).map(Some).map_err(damaged)
    }

    /// Replaces the file. When this returns the new one is durable; a crash before leaves the old one or the new one.
    ///
    /// # Errors
    /// What the storage fails with; which of the two is there is then not known before the next start.
    pub fn save(&self, storage: &dyn Storage) -> Result<(), StoreError> {
        storage.replace(files::SUSPENDED, &self.encode())
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("texts and numbers are JSON");
        json.push(b'\n');
        let head = format!("{HEAD}{:08x}\n", crc32c::crc32c(&json));
        [head.as_bytes(), &json].concat()
    }

    /// What the bytes of a file say.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let line = bytes.iter().position(|&byte| byte == b'\n').ok_or("it has no first line")?;
        let (head, json) = (&bytes[..line], &bytes[line + 1..]);
        let crc = std::str::from_utf8(head).ok().and_then(|head| head.strip_prefix(HEAD));
        let crc = crc.ok_or("its first line is that of no format known here")?;
        if crc != format!("{:08x}", crc32c::crc32c(json)) {
            return Err("its checksum is wrong");
        }
        serde_json::from_slice(json).map_err(|_| "it says what it cannot")
    }
}

/// 16 bytes as hex digits.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:032x}", u128::from_be_bytes(*bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = (text.len() == 32).then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(u128::to_be_bytes).ok_or_else(|| D::Error::custom("32 hex digits are wanted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::storage::Memory;

    fn suspended() -> Suspended {
        let cause = Cause {
            reason: "case 12: \"who paid?\"".to_owned(),
            since_unix_ms: 1_795_309_260_007,
            by: Who { uid: 1000, pid: 4711 },
        };
        let hold = |held| Hold { held, cause: cause.clone() };
        Suspended {
            salt: [0x5A; 16],
            holds: vec![hold(Held::Locker([1; 16])), hold(Held::TradeLocker([0xEE; 16]))],
            pauses: vec![Pause { coin: TradeCoin::Monero, cause: cause.clone() }],
        }
    }

    #[test]
    fn golden_bytes() {
        let bytes = Suspended { holds: suspended().holds[..1].to_vec(), ..suspended() }.encode();
        let text = String::from_utf8(bytes).unwrap();
        let (head, json) = text.split_once('\n').unwrap();
        assert_eq!(head, "raida suspensions, format 1, crc32c 53c320d5");
        let words: String = json.split_whitespace().collect();
        let cause = r#""reason":"case12:\"whopaid?\"","since_unix_ms":1795309260007,"by":{"uid":1000,"pid":4711}"#;
        assert_eq!(
            words,
            format!(
                r#"{{"salt":"{}","holds":[{{"held":{{"locker":"{}"}},{cause}}}],"pauses":[{{"coin":"monero",{cause}}}]}}"#,
                "5a".repeat(16),
                "01".repeat(16)
            )
        );
    }

    #[test]
    fn there_and_back() {
        let memory = Memory::new();
        assert_eq!(Suspended::load(&memory).unwrap(), None);
        suspended().save(&memory).unwrap();
        assert_eq!(Suspended::load(&memory).unwrap(), Some(suspended()));
        let nothing = Suspended { salt: [7; 16], ..Suspended::default() };
        nothing.save(&memory).unwrap();
        memory.crash(1);
        assert_eq!(Suspended::load(&memory).unwrap(), Some(nothing));
    }

    /// Wherever a crash comes, the old file or the new one is there; what was said to be saved, is.
    #[test]
    fn a_crash_leaves_the_old_or_the_new() {
        let old = Suspended { holds: Vec::new(), ..suspended() };
        let mut found = [false; 2];
        for (after, seed) in (1..20).flat_map(|after| (0..8).map(move |seed| (after, seed))) {
            let memory = Memory::new();
            old.save(&memory).unwrap();
            memory.crash_after(after);
            let saved = suspended().save(&memory).is_ok();
            memory.crash(seed);
            let left = Suspended::load(&memory).unwrap().expect("one of them");
            assert!(left == suspended() || left == old && !saved, "{after} {seed}");
            found[usize::from(left == old)] = true;
        }
        assert_eq!(found, [true; 2]);
    }

    #[test]
    fn whatever_bit_flips_it_is_refused() {
        let whole = suspended().encode();
        assert_eq!(Suspended::decode(&whole), Ok(suspended()));
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Suspended::decode(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(Suspended::decode(&whole[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_fingerprint_is_short() {
        assert_eq!(Held::Locker([0xAB; 16]).fingerprint(), "abababab");
    }
}
