//! The text of raida.toml: refused in one line, or a configuration within its bounds that says the same when it is
//! written down again. An error never repeats a secret.

use raida::config::{Config, ConfigError, Durability};
use raida::settings::{Identifier, Settlement};

/// A secret as an operator writes it, in a table that other text may have opened.
const SECRET: &str = "\nadmin_key = \"5ec3e70000000000000000005ec3e700\"\n";
const SECRET_START: &str = "5ec3e7";

/// Reads the bytes as text, alone and with a secret behind it.
pub fn run(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if !text.contains(SECRET_START)
        && let Err(error) = parse(&format!("{text}{SECRET}"))
    {
        assert!(!error.to_string().contains(SECRET_START), "{error}");
    }
    let Ok(config) = parse(text) else { return false };
    assert_eq!(config.check("the file"), Ok(()));
    assert!((1..=raida::config::SHARDS_MAX).contains(&config.settings().shards));
    let again = parse(&written(&config)).expect("what a configuration says is allowed");
    assert_eq!(again, Config { notes: Vec::new(), ..config });
    true
}

/// Reads a file's text; an error is one line that names the file.
fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("raida.toml", text).inspect_err(|error| {
        let line = error.to_string();
        assert!(line.starts_with("raida.toml: ") && !line.contains(['\n', '\r']), "{line:?}");
    })
}

/// A configuration as a file says it, every key of it.
fn written(config: &Config) -> String {
    let Config { server, limits, store, archive, market, change, treasury, admin, notes: _ } = config;
    let durability = if store.durability == Durability::Sync { "sync" } else { "none" };
    let identifier = if market.identifier == Identifier::Hashed { "hashed" } else { "an" };
    let [cloudcoin, bitcoin, monero] =
        market.settlement.map(|settlement| if settlement == Settlement::Off { "off" } else { "trusted" });
    let mut text = format!(
        "[server]\nraida_id = {}\ncoin_id = {}\nport = {}\nlisten = \"{}\"\nthreads = {}\ncpus = {:?}\n",
        server.raida_id, server.coin_id, server.port, server.listen, server.threads, server.cpus
    );
    text += &format!(
        "[limits]\nconnections = {}\nconnection_requests = {}\nrequests_in_flight = {}\ncoins_in_flight = {}\n\
         header_seconds = {}\nbody_seconds = {}\nidle_seconds = {}\nsend_seconds = {}\n\
         outbound_bytes_connection = {}\noutbound_bytes_total = {}\ndatagram_bytes = {}\npown_sum = {}\n",
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
        limits.datagram_bytes,
        limits.pown_sum,
    );
    text += &format!(
        "[store]\ncache_pages = {}\nlog_segment_bytes = {}\nlog_segments = {}\ndurability = \"{durability}\"\n",
        store.cache_pages, store.log_segment_bytes, store.log_segments,
    );
    text += &format!(
        "[archive]\nenabled = {}\nretain_bytes = {}\nretain_days = {}\n",
        archive.enabled, archive.retain_bytes, archive.retain_days,
    );
    text += &format!(
        "[market]\nidentifier = \"{identifier}\"\noffers_max = {}\ncloudcoin = \"{cloudcoin}\"\n\
         bitcoin = \"{bitcoin}\"\nmonero = \"{monero}\"\n",
        market.offers_max,
    );
    let networks: Vec<String> = treasury.networks.iter().map(|network| network.to_string()).collect();
    let key_file = treasury.key_file.as_deref().and_then(|path| path.to_str()).unwrap_or_default();
    text += &format!("[treasury]\nkey_file = {}\nnetworks = {networks:?}\n", quoted(key_file));
    let listen = admin.listen.at().map_or("off".to_string(), |address| address.to_string());
    let socket = admin.socket.at().and_then(|path| path.to_str()).unwrap_or("off");
    text += &format!("[admin]\nlisten = \"{listen}\"\nsocket = {}\nexposed = {}\n", quoted(socket), admin.exposed);
    text + &format!(
        "[change]\nbreak_limit = {}\nbreak_window_hours = {}\nexempt_loopback = {}\nrate_addresses_max = {}\n\
         reservation_seconds = {}\n",
        change.break_limit,
        change.break_window_hours,
        change.exempt_loopback,
        change.rate_addresses_max,
        change.reservation_seconds,
    )
}

/// Text as a file says it, whatever is in it.
fn quoted(text: &str) -> String {
    let units = text.chars().map(|char| format!("\\U{:08X}", u32::from(char)));
    format!("\"{}\"", units.collect::<String>())
}

/// The deployed file, its tables one by one with their comments taken away, and the reference's keys.
pub fn seeds() -> Vec<Vec<u8>> {
    let deployed = include_str!("../../deploy/raida.toml");
    let lines = deployed.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let bare = lines.collect::<Vec<_>>().join("\n");
    let starts: Vec<usize> = bare.match_indices("\n[").map(|(at, _)| at + 1).collect();
    let ends = starts.iter().copied().skip(1).chain([bare.len()]);
    let mut seeds: Vec<Vec<u8>> =
        starts.iter().zip(ends).map(|(&start, end)| bare.as_bytes()[start..end].to_vec()).collect();
    let servers = vec!["\"raida.example:50000\""; raida::config::NETWORK_SERVERS].join(", ");
    let reference = format!(
        "[server]\nraida_id = 3\nbackup_freq = 3600\nroot_path = \"/opt/raidax\"\nproxy_addr = \"proxy.example\"\n\
         synchronization_enabled = true\nproxy_key = \"00112233445566778899aabbccddeeff\"\nraida_servers = [{servers}]\n"
    );
    seeds.extend([bare.clone().into_bytes(), reference.into_bytes(), written(&Config::default()).into_bytes()]);
    seeds
}
