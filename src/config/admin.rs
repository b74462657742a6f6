//! `[admin]`: where the node's own thread answers an operator's tools over HTTP.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::section::{ConfigError, Section};

/// `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Admin {
    /// Where to listen.
    pub listen: AdminListen,
    /// Whether an address that other machines reach is allowed.
    pub exposed: bool,
}

/// Where the admin thread listens.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AdminListen {
    /// Nowhere: there is no such thread.
    #[default]
    Off,
    /// On an address.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Unix(PathBuf),
}

impl AdminListen {
    /// What is allowed, for errors and help.
    pub const ALLOWED: &str = "\"off\", \"ADDRESS:PORT\", \"unix:/PATH\"";
}

/// A text that is no [`AdminListen`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAdminListen;

impl fmt::Display for NoAdminListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allowed are {}", AdminListen::ALLOWED)
    }
}

impl std::error::Error for NoAdminListen {}

impl FromStr for AdminListen {
    type Err = NoAdminListen;

    fn from_str(text: &str) -> Result<Self, NoAdminListen> {
        match (text, text.strip_prefix("unix:")) {
            ("off", _) => Ok(Self::Off),
            (_, Some(path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            (_, Some(_)) => Err(NoAdminListen),
            (address, None) => address.parse().map(Self::Tcp).map_err(|_| NoAdminListen),
        }
    }
}

impl Admin {
    /// Reads the table.
    pub(super) fn read(table: &mut Section<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        Ok(Self {
            listen: table
                .value("listen", AdminListen::ALLOWED, default.listen, |value| value.as_str()?.parse().ok())?,
            exposed: table.boolean("exposed", default.exposed)?,
        })
    }

    /// Refuses an address that other machines reach, unless that is allowed.
    pub(super) fn check(&self, source: &str) -> Result<(), ConfigError> {
        match self.listen {
            AdminListen::Tcp(address) if !address.ip().is_loopback() && !self.exposed => {
                Err(ConfigError::new(format_args!(
                    "{source}: admin.listen = {address}: other machines reach it, and it asks nobody who he is: allowed is \
                     an address of this machine alone, unless admin.exposed = true"
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn an_address_is_a_socket_a_path_or_off() {
        assert_eq!("off".parse(), Ok(AdminListen::Off));
        assert_eq!("127.0.0.1:50100".parse(), Ok(AdminListen::Tcp(([127, 0, 0, 1], 50_100).into())));
        assert_eq!("unix:/run/raida/admin".parse(), Ok(AdminListen::Unix("/run/raida/admin".into())));
        for wrong in ["", "on", "unix:", "unix:run", "localhost:50100", "127.0.0.1", "50100"] {
            assert_eq!(wrong.parse::<AdminListen>(), Err(NoAdminListen), "{wrong}");
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
