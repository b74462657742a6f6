//! Writes every target's seeds, with what was found before, to a directory: the start of a long run.

use std::fs;
use std::io;
use std::path::Path;

use raida_fuzz::TARGETS;

/// `corpus DIRECTORY`: fills `DIRECTORY/<target>/`.
fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: corpus DIRECTORY"));
    };
    for target in TARGETS {
        let directory = Path::new(&root).join(target.name);
        fs::create_dir_all(&directory)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}
