//! `[treasury]`: who creates and frees coins over the wire. The key is in a file of its own, which nobody but the node's
//! user can read; it is in no error and no log.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml::Value;
use zeroize::Zeroizing;

use crate::coin::Secret;
use crate::settings;

use super::section::{ConfigError, Section};

/// More than the file of a key has.
const KEY_FILE_BYTES_MAX: u64 = 64;

/// `[treasury]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Treasury {
    /// The file of the key; without one the treasury's commands are not served.
    pub key_file: Option<PathBuf>,
    /// The networks that may use it.
    pub networks: Vec<IpNet>,
    /// The key, once its file was read.
    key: Option<Zeroizing<Secret>>,
}

impl Default for Treasury {
    fn default() -> Self {
        let here = [
            Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
            Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
        ];
        Self { key_file: None, networks: here.into(), key: None }
    }
}

impl Treasury {
    pub(super) fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            key_file: table.value("key_file", "the path of a file in quotes, or \"\"", default.key_file, |value| {
                value.as_str().map(|path| (!path.is_empty()).then(|| path.into()))
            })?,
            networks: table.value(
                "networks",
                "a list of networks in quotes, such as \"192.0.2.0/24\", \"2001:db8::/32\"",
                default.networks,
                networks,
            )?,
            key: None,
        })
    }

    /// Reads the file of the key, if there is one; `source` is what names it.
    ///
    /// # Errors
    /// When it cannot be read, has no key, or others than its owner can read it.
    pub(super) fn read_key(&mut self, source: &str) -> Result<(), ConfigError> {
        let Some(path) = &self.key_file else { return Ok(()) };
        let refused =
            |why: &str| ConfigError::new(format_args!("{source}: treasury.key_file = \"{}\": {why}", path.display()));
        let (mode, text) = read_secret(path).map_err(|error| refused(&error.to_string()))?;
        if mode & 0o077 != 0 {
            return Err(refused(&format!("its mode is {:04o}: allowed is 0600 or less", mode & 0o7777)));
        }
        self.key = Some(key_of(&text).ok_or_else(|| refused("(secret): allowed are 32 hexadecimal digits"))?);
        Ok(())
    }

    /// What a shard needs of it.
    pub fn settings(&self) -> Option<settings::Treasury> {
        let key = self.key.clone()?;
        Some(settings::Treasury { key, networks: self.networks.clone() })
    }
}

/// A file's mode and its bytes, wiped when dropped.
fn read_secret(path: &Path) -> io::Result<(u32, Zeroizing<Vec<u8>>)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    // At once large enough: what a growing vector leaves behind is not wiped.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_BYTES_MAX as usize));
    file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((mode, bytes))
}

/// The key of 32 hexadecimal digits and a line's end.
fn key_of(text: &[u8]) -> Option<Zeroizing<Secret>> {
    let digits: &[u8; 32] = text.trim_ascii().try_into().ok()?;
    let mut bytes = Zeroizing::new([0; 16]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| (pair[at] as char).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(Zeroizing::new(Secret::new(*bytes)))
}

fn networks(value: &Value) -> Option<Vec<IpNet>> {
    value.as_array()?.iter().map(|network| network.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::super::Config;
    use super::*;

    /// What a configuration with this key file says.
    fn read(content: &str, mode: u32) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let (key, file) = (folder.path().join("key"), folder.path().join("raida.toml"));
        fs::write(&key, content).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        fs::write(&file, format!("[treasury]\nkey_file = {:?}\nnetworks = [\"192.0.2.0/24\"]\n", key)).unwrap();
        Config::read(&file)
    }

    #[test]
    fn the_key_is_in_a_file_of_its_own() {
        for content in ["00112233445566778899aabbCCDDEEFF", "00112233445566778899AABBCCDDEEFF\n"] {
            let treasury = read(content, 0o600).unwrap().settings().treasury.unwrap();
            let bytes = [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF];
            assert!(*treasury.key == Secret::new(bytes));
            assert!(treasury.networks[0].contains(&IpNet::from(Ipv4Net::new_assert([192, 0, 2, 7].into(), 32))));
        }
        assert!(Config::default().settings().treasury.is_none());
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let secret = "00112233445566778899aabbccddeeff";
        for (content, mode, said) in [
            (secret, 0o640, "its mode is 0640: allowed is 0600 or less"),
            (secret, 0o604, "its mode is 0604: allowed is 0600 or less"),
            (&secret[1..], 0o600, "allowed are 32 hexadecimal digits"),
            (&secret.replace('a', "+"), 0o600, "allowed are 32 hexadecimal digits"),
            ("", 0o600, "allowed are 32 hexadecimal digits"),
        ] {
            let line = read(content, mode).unwrap_err().to_string();
            assert!(line.contains("treasury.key_file = ") && line.ends_with(said), "{line}");
            assert!(!line.contains("2233445566"), "{line}");
        }
        let line = Config::read(Path::new("/dev/null")).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(line, Ok(()));
    }

    #[test]
    fn a_key_is_not_printed() {
        let config = read("00112233445566778899aabbccddeeff", 0o600).unwrap();
        assert!(!format!("{config:?}").contains("17") && !format!("{config:?}").contains("0x11"), "{config:?}");
    }
}
