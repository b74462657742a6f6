//! What the README says is what the program is: its commands, its links.

use std::path::Path;

use raida::wire::request::COMMANDS;

const README: &str = include_str!("../../README.md");

/// The cells of every row of every table.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    README.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).map(|row| row.split(" | ").collect())
}

#[test]
fn the_table_of_commands_is_the_programs() {
    let documented: Vec<(u8, u8, &str)> = rows()
        .filter_map(|cells| match cells[..] {
            [group, code, name, _] => Some((group.parse().ok()?, code.parse().ok()?, name)),
            _ => None,
        })
        .collect();
    let served: Vec<(u8, u8, &str)> =
        COMMANDS.iter().map(|command| (command.group, command.code, command.name)).collect();
    assert_eq!(documented, served);
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links: Vec<&str> = README.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 10);
    for link in links.into_iter().filter(|link| !link.starts_with("http")) {
        let (file, heading) = link.split_once('#').unwrap_or((link, ""));
        let file = root.join(if file.is_empty() { "README.md" } else { file });
        assert!(file.exists(), "{link}");
        if !heading.is_empty() {
            let text = std::fs::read_to_string(file).expect("text");
            let mut headings = text.lines().filter_map(|line| line.strip_prefix("## "));
            assert!(headings.any(|line| line.to_lowercase().replace(' ', "-") == heading), "{link}");
        }
    }
}
