//! `[admin]`: where the node's own thread answers an operator's tools over HTTP.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::section::{ConfigError, Section};

/// `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admin {
    /// The address for whoever only looks.
    pub listen: Door<SocketAddr>,
    /// The Unix socket, for the node's user and group.
    pub socket: Door<PathBuf>,
    /// Whether an address that other machines reach is allowed.
    pub exposed: bool,
}

/// A place where the admin thread may listen: an address, or the path of a Unix socket.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Door<T> {
    /// It does not.
    #[default]
    Off,
    /// It listens here.
    At(T),
}

impl<T> Door<T> {
    /// Where it listens, if it does.
    pub const fn at(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::At(place) => Some(place),
        }
    }
}

impl Door<SocketAddr> {
    /// What is allowed, for errors and help.
    pub const ALLOWED: &str = "\"off\", \"ADDRESS:PORT\"";
}

impl Door<PathBuf> {
    /// What is allowed, for errors and help.
    pub const ALLOWED: &str = "\"off\", \"/PATH\"";
}

/// A text that is no [`Door`]; it says what is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoDoor(&'static str);

impl fmt::Display for NoDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allowed are {}", self.0)
    }
}

impl std::error::Error for NoDoor {}

impl FromStr for Door<SocketAddr> {
    type Err = NoDoor;

    fn from_str(text: &str) -> Result<Self, NoDoor> {
        match text {
            "off" => Ok(Self::Off),
            address => address.parse().map(Self::At).map_err(|_| NoDoor(Self::ALLOWED)),
        }
    }
}

impl FromStr for Door<PathBuf> {
    type Err = NoDoor;

    fn from_str(text: &str) -> Result<Self, NoDoor> {
        match text {
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::At(path.into())),
            _ => Err(NoDoor(Self::ALLOWED)),
        }
    }
}

impl Admin {
    /// Reads the table.
    pub(super) fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            listen: table
                .value("listen", Door::<SocketAddr>::ALLOWED, default.listen, |value| value.as_str()?.parse().ok())?,
            socket: table
                .value("socket", Door::<PathBuf>::ALLOWED, default.socket, |value| value.as_str()?.parse().ok())?,
            exposed: table.boolean("exposed", default.exposed)?,
        })
    }

    /// Refuses an address that other machines reach, unless that is allowed.
    pub(super) fn check(&self, source: &str) -> Result<(), ConfigError> {
        match self.listen {
            Door::At(address) if !address.ip().is_loopback() && !self.exposed => Err(ConfigError::new(format_args!(
                "{source}: admin.listen = {address}: other machines reach it, and it asks nobody who he is: allowed is \
                     an address of this machine alone, unless admin.exposed = true"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_door_is_off_an_address_or_a_path() {
        assert_eq!("off".parse(), Ok(Door::<SocketAddr>::Off));
        assert_eq!("127.0.0.1:50100".parse(), Ok(Door::<SocketAddr>::At(([127, 0, 0, 1], 50_100).into())));
        for wrong in ["", "on", "localhost:50100", "127.0.0.1", "50100", "/run/raida/admin.sock"] {
            assert!(wrong.parse::<Door<SocketAddr>>().is_err(), "{wrong}");
        }
        assert_eq!("off".parse(), Ok(Door::<PathBuf>::Off));
        assert_eq!("/run/raida/admin.sock".parse(), Ok(Door::<PathBuf>::At("/run/raida/admin.sock".into())));
        for wrong in ["", "on", "admin.sock", "127.0.0.1:50100"] {
            assert!(wrong.parse::<Door<PathBuf>>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_of_the_world_needs_to_be_allowed() {
        for address in ["0.0.0.0:50100", "[::]:50100", "192.0.2.1:50100"] {
            let text = format!("[admin]\nlisten = \"{address}\"\n");
            let refused = Config::parse("raida.toml", &text).expect_err(address).to_string();
            assert!(refused.contains("admin.exposed"), "{refused}");
            assert!(Config::parse("raida.toml", &format!("{text}exposed = true\n")).is_ok());
        }
        assert!(Config::parse("raida.toml", "[admin]\nlisten = \"[::1]:50100\"\n").is_ok());
    }
}
