//! A short fuzz of every target on stable Rust: always the same inputs, and each that was ever found to fail.

use std::fs;
use std::path::Path;

use raida::sim::Seeded;
use raida::wire::request::COMMANDS;
use raida_fuzz::{TARGETS, Target, frame, mutate};

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect(name)
}

/// Runs a target as often as takes a second. Some inputs go all the way: else the fuzz would be in vain.
fn fuzz(name: &str) {
    let target = target(name);
    let (seeds, mut random) = ((target.seeds)(), Seeded(0xF022));
    let taken = (0..target.short_runs).filter(|_| (target.run)(&mutate::next(&seeds, &mut random))).count();
    assert!(taken * 100 > target.short_runs as usize, "{taken} of {} inputs were not refused", target.short_runs);
}

macro_rules! short_fuzz {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name));
            }
        )*
    };
}

short_fuzz!(header seal request frame log block page config import backup);

#[test]
fn every_seed_goes_all_the_way() {
    for target in TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            assert!((target.run)(seed), "{}: seed {number} is refused", target.name);
        }
    }
}

#[test]
fn every_command_is_carried_out_in_the_stories_of_frames() {
    let mut sum = frame::Done::default();
    for seed in frame::seeds() {
        sum.iter_mut().zip(frame::tell(&seed)).for_each(|(sum, done)| *sum += done);
    }
    for (command, done) in COMMANDS.iter().zip(sum) {
        assert!(done > 0, "no {command} was carried out");
    }
}

#[test]
fn what_was_found_stays_repaired() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for directory in fs::read_dir(root).expect("the directory of regressions").map(Result::unwrap) {
        let target = target(directory.file_name().to_str().expect("a target's name"));
        for file in fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
            println!("{}", file.path().display());
            (target.run)(&fs::read(file.path()).unwrap());
        }
    }
}

#[test]
fn every_target_is_a_test_and_a_program() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED, names);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let mut programs: Vec<String> = fs::read_dir(root.join("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    programs.sort();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(programs, sorted);
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        let program = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(program.contains(&format!("raida_fuzz::{name}::run(bytes)")), "{name}");
    }
}
