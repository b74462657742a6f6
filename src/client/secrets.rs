//! Fresh secrets, and locker keys from what people type.

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::coin::{Place, Secret};

use super::Error;

/// Random bytes of the system's own source.
///
/// # Errors
/// Where the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Machine("getrandom".into(), io::Error::other(error.to_string())))?;
    Ok(bytes)
}

/// A fresh AN: random, and of no locker.
///
/// # Errors
/// Where the system has no random bytes.
pub fn fresh_an() -> Result<Secret, Error> {
    loop {
        let an = Secret::new(random()?);
        if an.place() == Place::Wallet {
            return Ok(an);
        }
    }
}

/// A session that nobody else has; 0 is none.
///
/// # Errors
/// Where the system has no random bytes.
pub fn new_session() -> Result<u32, Error> {
    loop {
        let session = u32::from_be_bytes(random()?);
        if session != 0 {
            return Ok(session);
        }
    }
}

/// The key of a file: 32 hex digits. What is wrong with it is said without them.
///
/// # Errors
/// [`Error::Usage`] when it cannot be read or has no key.
pub fn read_key(file: &Path) -> Result<Secret, Error> {
    let refused = |why: String| Error::Usage(format!("{}: {why}", file.display()));
    let text = fs::read_to_string(file).map(Zeroizing::new).map_err(|error| refused(error.to_string()))?;
    bytes_of_hex(text.trim()).map(Secret::new).ok_or_else(|| refused("a key is 32 hex digits".into()))
}

/// A locker's key as it is typed: 32 hex digits, or a transmit code such as `ABC-1234`.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySpec {
    /// The key itself.
    Key(Secret),
    /// A code that means another key for every RAIDA.
    Code(String),
}

impl KeySpec {
    /// The key at a RAIDA. Of a code: MD5 of the RAIDA's number and the code, last four bytes `FF`.
    pub fn key(&self, raida_id: u8) -> Secret {
        match self {
            Self::Key(key) => *key,
            Self::Code(code) => {
                let mut bytes: [u8; 16] = Md5::digest(format!("{raida_id}{code}")).into();
                bytes[12..].fill(0xFF);
                Secret::new(bytes)
            }
        }
    }
}

impl FromStr for KeySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(key) = bytes_of_hex(text) {
            return Ok(Self::Key(Secret::new(key)));
        }
        let is_code = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        // A code that looks like a mistyped key would silently open another locker.
        if text.is_empty() || text.len() > 24 || !text.bytes().all(is_code) {
            return Err("a locker's key is 32 hex digits, or a transmit code such as ABC-1234".into());
        }
        Ok(Self::Code(text.to_owned()))
    }
}

/// The bytes of twice as many hex digits.
pub fn bytes_of_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// The hex digits of bytes.
pub fn hex_of_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transmit_code_means_a_key_for_every_raida() {
        let code: KeySpec = "ABC-1234".parse().unwrap();
        // MD5 of "0ABC-1234" and "24ABC-1234", computed with another implementation.
        let keys = [0, 24].map(|raida_id| hex_of_bytes(code.key(raida_id).bytes()));
        assert_eq!(keys, ["d21fb1d3356a62e770ca4e40ffffffff", "9043e4eb32d17260cecd2675ffffffff"]);
        assert!(matches!(code.key(0).place(), Place::Locker(_)));
    }

    #[test]
    fn a_key_is_hex_or_a_code() {
        let key = "00112233445566778899AABBFFFFFFFF";
        assert!(key.parse::<KeySpec>().unwrap() == KeySpec::Key(Secret::new(bytes_of_hex(key).unwrap())));
        assert!("ABC-1234".parse::<KeySpec>().is_ok());
        for wrong in ["", "two words", "00112233445566778899AABBFFFFFFF"] {
            assert!(wrong.parse::<KeySpec>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hex_there_and_back() {
        assert_eq!(bytes_of_hex("00ffA5"), Some([0, 255, 0xA5]));
        assert_eq!(bytes_of_hex::<3>("00ff"), None);
        assert_eq!(bytes_of_hex::<1>("0g"), None);
        assert_eq!(bytes_of_hex::<2>("+1é"), None);
        assert_eq!(hex_of_bytes(&[0, 255, 0xA5]), "00ffa5");
    }

    #[test]
    fn fresh_ans_differ_and_are_of_no_locker() {
        let (one, other) = (fresh_an().unwrap(), fresh_an().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.place(), Place::Wallet);
    }
}
