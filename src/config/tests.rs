//! The file and the code agree, and every mistake is one line that names its key.

use proptest::prelude::*;

use super::*;

const DEPLOYED: &str = include_str!("../../deploy/raida.toml");

fn refused(text: &str) -> String {
    let line = Config::parse("raida.toml", text).expect_err(text).to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

/// The keys each table knows, by reading an empty one.
fn known_keys() -> Vec<(&'static str, Vec<&'static str>)> {
    fn keys<T>(
        name: &'static str,
        read: fn(&mut Section<'_>) -> Result<T, ConfigError>,
    ) -> (&'static str, Vec<&'static str>) {
        let mut section = Section::take("raida.toml", name, &mut toml::Table::new()).unwrap();
        assert!(read(&mut section).is_ok());
        (name, section.known().to_vec())
    }
    vec![
        keys("server", Server::read),
        keys("limits", Limits::read),
        keys("store", Store::read),
        keys("archive", Archive::read),
        keys("market", Market::read),
        keys("change", Change::read),
        keys("treasury", Treasury::read),
        keys("admin", Admin::read),
    ]
}

#[test]
fn the_deployed_file_is_the_default() {
    assert_eq!(Config::parse("raida.toml", DEPLOYED), Ok(Config::default()));
    assert_eq!(Config::parse("raida.toml", ""), Ok(Config::default()));
}

#[test]
fn the_deployed_file_names_every_key_in_its_table() {
    for (table, keys) in known_keys() {
        let (_, rest) = DEPLOYED.split_once(&format!("[{table}]\n")).expect(table);
        let section = rest.split("\n[").next().unwrap();
        for key in keys {
            let named = section
                .lines()
                .map(|line| line.trim_start_matches("# "))
                .any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" ")));
            assert!(named, "{table}.{key}");
        }
    }
}

#[test]
fn what_the_deployed_file_comments_out_is_allowed_too() {
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '"', '(']));
    let text: Vec<&str> =
        DEPLOYED.lines().map(|line| line.strip_prefix("# ").filter(|line| is_key(line)).unwrap_or(line)).collect();
    let config = Config::parse("raida.toml", &text.join("\n")).unwrap();
    assert_eq!(config.notes.len(), 10, "{:?}", config.notes);
    assert_eq!(Config { notes: Vec::new(), ..config }, Config::default());
}

#[test]
fn a_value_that_is_not_allowed_is_named_with_what_is() {
    assert_eq!(refused("[limits]\nconnections = 0"), "raida.toml: limits.connections = 0: allowed are 1..=1000000");
    assert_eq!(refused("[server]\nraida_id = 25"), "raida.toml: server.raida_id = 25: allowed are 0..=24");
    assert_eq!(refused("[server]\nraida_id = -1"), "raida.toml: server.raida_id = -1: allowed are 0..=24");
    assert_eq!(refused("[server]\nport = \"50000\""), "raida.toml: server.port = \"50000\": allowed are 1..=65535");
    assert_eq!(
        refused("[store]\ndurability = \"often\""),
        "raida.toml: store.durability = \"often\": allowed are \"sync\", \"none\""
    );
    assert_eq!(refused("server = 5"), "raida.toml: server = 5: allowed is a table, [server]");
    assert_eq!(
        refused("[store]\nlog_segment_bytes = 1048577"),
        "raida.toml: store.log_segment_bytes = 1048577: allowed are 1048576..=1073741824 in whole blocks of 4096"
    );
    assert!(refused("[server]\ncpus = [1, 1]").contains("server.cpus = [1, 1]: allowed are"));
    assert!(refused("[server]\nthreads = 2\ncpus = [1]").contains("server.cpus names 1 cores for 2 shards"));
    assert!(refused("[server]\nlisten = \"here\"").contains("server.listen = \"here\": allowed are an IPv4"));
    assert!(refused(&format!("[server]\nlisten = \"{}\"", "x".repeat(5_000))).len() < 200);
    assert!(refused("[server]\nroot_path = 5").contains("server.root_path = 5"));
    assert!(refused("[server]\nraida_servers = [\"a:1\"]").contains("server.raida_servers ="));
    let crossed = refused("[limits]\noutbound_bytes_connection = 33554433\noutbound_bytes_total = 33554432");
    assert!(crossed.contains("limits.outbound_bytes_connection = 33554433"), "{crossed}");
}

#[test]
fn every_number_is_refused_beyond_both_its_bounds() {
    for (table, keys) in known_keys() {
        let defaults: toml::Table = DEPLOYED.parse().unwrap();
        for key in keys {
            if defaults[table].get(key).is_none_or(|value| !value.is_integer()) {
                continue;
            }
            for beyond in [-1, i64::MAX, i64::MIN] {
                let line = refused(&format!("[{table}]\n{key} = {beyond}"));
                assert!(line.starts_with(&format!("raida.toml: {table}.{key} = {beyond}: allowed are ")), "{line}");
            }
        }
    }
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    assert!(refused("[server]\nraida_id = 1\nraida_id = 2").starts_with("raida.toml: line 3 is not TOML: "));
    assert!(refused("[server]\nport 5").starts_with("raida.toml: line 2 is not TOML: "));
}

#[test]
fn no_error_and_no_note_shows_a_secret() {
    const KEY: &str = "6de9439834c9147569741d3c9c9fc01";
    for key in ["admin_key", "proxy_key"] {
        // Too short, not quoted, not closed, in a table that does not know it, and where a table is a mistake.
        for text in [
            format!("[server]\n{key} = \"{KEY}\""),
            format!("[server]\n{key} = {KEY}"),
            format!("[server]\n{key} = \"{KEY}"),
            format!("[market]\n{key} = \"{KEY}0\""),
            format!("{key} = \"{KEY}0\""),
            format!("[[server]]\n{key} = \"{KEY}0\""),
            format!("[server.listen]\n{key} = \"{KEY}0\""),
        ] {
            let line = refused(&text);
            assert!(!line.contains(&KEY[..6]), "{line}");
        }
        let config = Config::parse("raida.toml", &format!("[server]\n{key} = \"{KEY}0\"")).unwrap();
        assert_eq!(config.notes.len(), 1);
        assert!(!format!("{config:?}").contains(&KEY[..6]));
    }
}

#[test]
fn the_file_of_the_reference_is_understood() {
    let servers: Vec<String> = (0..25).map(|n| format!("\"raida{n}.example:{}\"", 50_000 + n)).collect();
    let text = format!(
        "[server]\nraida_id = 14\ncoin_id = 6\nport = 50014\nbackup_freq = 5\nudp_effective_payload = 1440\n\
         synchronization_enabled = false\nroot_path = \"/opt/raida\"\nthreads = 12\n\
         admin_key = \"00112233445566778899aabbccddeeff\"\nproxy_key = \"00112233445566778899aabbccddeeff\"\n\
         btc_confirmations = 3\nraida_servers = [{},]\n",
        servers.join(", ")
    );
    let config = Config::parse("raida.toml", &text).unwrap();
    assert_eq!((config.server.raida_id, config.server.port, config.shards()), (14, 50_014, 12));
    assert_eq!(config.notes.len(), 8);
    assert!(config.notes[0].contains("server.backup_freq has no effect here: "));
}

#[test]
fn a_shard_gets_what_the_file_says() {
    let text = "[server]\nraida_id = 3\nthreads = 2\n[store]\ndurability = \"none\"\n[market]\nbitcoin = \"trusted\"\n\
                identifier = \"an\"\n[change]\nbreak_window_hours = 1\nreservation_seconds = 2";
    let settings = Config::parse("raida.toml", text).unwrap().settings();
    assert_eq!((settings.raida_id, settings.coin_id, settings.shards), (3, 6, 2));
    assert_eq!((settings.break_window_s, settings.reservation_ms, settings.durable), (3_600, 2_000, false));
    assert_eq!(settings.settlement, [Settlement::Off, Settlement::Trusted, Settlement::Off]);
    assert_eq!(settings.identifier, Identifier::An);
}

#[test]
fn the_number_of_shards_is_the_threads_or_the_cores() {
    let shards = |text: &str| Config::parse("raida.toml", text).unwrap().shards();
    assert_eq!(shards("[server]\nthreads = 3"), 3);
    assert_eq!(shards("[server]\ncpus = [0, 2]"), 2);
    assert!((1..=SHARDS_MAX).contains(&shards("")));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nowhere/raida.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/raida.toml: "), "{error}");
}

proptest! {
    #[test]
    fn an_unknown_key_is_always_named_with_the_known_ones(at in 0usize..5, key in "[a-z_]{1,20}", value in 0u32..9) {
        let (table, known) = known_keys().swap_remove(at);
        prop_assume!(!known.contains(&key.as_str()));
        let line = refused(&format!("[{table}]\n{key} = {value}"));
        prop_assert_eq!(line, format!("raida.toml: {table}.{key}: unknown key; [{table}] knows {}", known.join(", ")));
    }

    #[test]
    fn any_text_is_a_configuration_or_one_line(text in "(\\[(server|limits|x)\\]\n|(port|cpus|listen|x) = (1|-1|\\[|\\]|\"é\"|'|true)\n|.){0,12}") {
        if let Err(error) = Config::parse("raida.toml", &text) {
            prop_assert!(error.to_string().starts_with("raida.toml: "));
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}
