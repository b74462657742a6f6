//! The bounds that can be changed while the node serves, by their names in raida.toml.
//!
//! A value is read, and refused, as the file's would be. It counts until the node ends; what is to stay belongs into the
//! file.

use std::collections::BTreeMap;

use crate::config::Config;

struct Bound {
    name: &'static str,
    read: fn(&Config) -> String,
    copy: fn(&mut Config, &Config),
}

macro_rules! bounds {
    ($($table:ident.$key:ident),* $(,)?) => {
        &[$(Bound {
            name: concat!(stringify!($table), ".", stringify!($key)),
            read: |config| config.$table.$key.to_string(),
            copy: |to, from| to.$table.$key = from.$table.$key,
        }),*]
    };
}

const BOUNDS: &[Bound] = bounds![
    limits.connections,
    limits.connection_requests,
    limits.requests_in_flight,
    limits.coins_in_flight,
    limits.header_seconds,
    limits.body_seconds,
    limits.idle_seconds,
    limits.send_seconds,
    limits.outbound_bytes_connection,
    limits.outbound_bytes_total,
    store.cache_pages,
    market.offers_max,
    change.break_limit,
    change.break_window_hours,
    change.exempt_loopback,
];

/// Every bound that can be changed, and its value.
pub fn all(config: &Config) -> BTreeMap<String, String> {
    BOUNDS.iter().map(|bound| (bound.name.to_string(), (bound.read)(config))).collect()
}

/// The configuration with another value for a bound.
///
/// # Errors
/// What is wrong with the name or the value, in a line.
pub fn with(config: &Config, name: &str, value: &str) -> Result<Config, String> {
    let Some(bound) = BOUNDS.iter().find(|bound| bound.name == name) else {
        let names: Vec<&str> = BOUNDS.iter().map(|bound| bound.name).collect();
        return Err(format!("{name} cannot be changed while the node serves; what can: {}", names.join(", ")));
    };
    // As a file that says all of them, so that what must hold between two of them is seen too.
    let mut values = all(config);
    values.insert(name.to_string(), value.to_string());
    let line = |(name, value): (&String, &String)| format!("{name} = {value}\n");
    let parsed =
        Config::parse("set", &values.iter().map(line).collect::<String>()).map_err(|error| error.to_string())?;
    let mut changed = config.clone();
    (bound.copy)(&mut changed, &parsed);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_read_and_changed_by_its_name() {
        let config = Config::default();
        for (name, value) in all(&config) {
            let other = match value.as_str() {
                "true" => "false".to_string(),
                // Half is allowed of every default, but where a request needs as much.
                number => (number.parse::<u64>().unwrap() / 2).max(1).to_string(),
            };
            let changed = with(&config, &name, &other).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(all(&changed)[&name], other);
            let differing = all(&changed).into_iter().filter(|(name, value)| all(&config)[name] != *value).count();
            assert_eq!(differing, 1, "{name}");
            assert_eq!(with(&changed, &name, &value), Ok(config.clone()));
        }
    }

    #[test]
    fn what_the_file_may_not_say_is_refused() {
        for (name, value, says) in [
            ("limits.idle_seconds", "0", "1..=86400"),
            ("limits.idle_seconds", "soon", "set"),
            ("limits.outbound_bytes_connection", "1073741824", "outbound_bytes_total"),
            ("server.port", "1", "cannot be changed"),
            ("store.log_segments", "9", "limits.connections, "),
        ] {
            let error = with(&Config::default(), name, value).unwrap_err();
            assert!(error.contains(says), "{name} = {value}: {error}");
        }
        assert!(
            with(&Config::default(), "limits.idle_seconds", "5\nlimits.body_seconds = 7").is_err(),
            "one at a time"
        );
    }
}
