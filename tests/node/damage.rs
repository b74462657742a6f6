//! Disks that fail under a real node, and files that are damaged while it is down or serves: it says in one line what is
//! wrong, goes on where it safely can, and what was answered is there once the damage is undone.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::crash::Lab;
use crate::holder::Holder;
use crate::net::NetClient;
use crate::program::{Ended, Node, command, serve};
use raida::coin::{CoinId, Secret};
use raida::sim::World;
use raida::store::layout::PAGE_BYTES;
use raida::store::storage::Directory;
use raida::store::{files, recovery};
use raida::wire::items::{self, RawCoin, SecretCoins};
use raida::wire::request::Request;
use raida::wire::status::Status;

/// The exit status of a node whose machine failed, and of one whose data directory is damaged.
const MACHINE: i32 = 9;
const DATA: i32 = 5;

/// A command whose files may not grow, nor be written, beyond so many blocks of 512 bytes: what a full disk looks like.
fn limited(blocks: u32, words: &[String]) -> Command {
    let inner = command(words);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f \"$0\" && exec \"$@\"", &blocks.to_string()]);
    command.arg(inner.get_program()).args(inner.get_args()).env_remove("RUST_LOG");
    command
}

/// The one line of a node that does not serve, which ends with `status`.
fn refused(command: Command, status: i32) -> String {
    let Err(ended) = Node::try_start(command) else { panic!("it serves") };
    the_error(&ended, status).to_string()
}

/// The one line that is no warning.
fn the_error(ended: &Ended, status: i32) -> &str {
    assert_eq!(ended.status.code(), Some(status), "{ended:?}");
    let errors: Vec<&str> =
        ended.said.lines().filter(|line| !line.contains("WARN") && !line.contains("INFO")).collect();
    assert_eq!(errors.len(), 1, "{}", ended.said);
    errors[0]
}

/// A lab whose node's disk fails while it serves: writes are refused from then on, reads are not, it ends with status 9,
/// and the next start finds what was answered.
fn a_disk_that_fails(
    coins_apart: u32,
    blocks: u32,
    act: impl Fn(&mut Holder, &mut NetClient) -> std::io::Result<()> + Sync,
    file: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::new(folder.path().join("data"), 7, coins_apart);
    // The log has its size before the disk is full.
    assert!(Node::start(&lab.data, 2).stop().status.success());
    let node = Node::try_start(limited(blocks, &serve(&lab.data, 2))).expect("room enough to start");
    lab.work(node.address(), act, || {});
    assert!(lab.written() > 0, "the disk fails in the midst of the work");
    let mut client = NetClient::tcp(node.address()).unwrap();
    // What needs no lock, as a command whose record was on its way may hold its locks for ever.
    assert_eq!(client.call(&Request::Echo).unwrap().0, Status::Success, "it still answers questions");
    let ended = node.stop();
    assert_eq!(ended.status.code(), Some(MACHINE), "{ended:?}");
    let failures: Vec<&str> = ended.said.lines().filter(|line| line.contains("cannot write")).collect();
    assert!(failures.iter().all(|line| line.contains(file) && line.contains("File too large")), "{failures:#?}");
    assert!((1..=2).contains(&failures.len()), "one line a shard at most: {failures:#?}");
    let node = Node::start(&lab.data, 3);
    lab.agrees(&node);
    assert!(node.stop().status.success());
}

#[test]
fn a_full_disk_under_the_log_loses_nothing_that_was_answered() {
    // All coins on the first 25 pages, which have room; a segment of 1 MiB has not.
    let act = |holder: &mut Holder, client: &mut NetClient| {
        holder.store(client)?;
        holder.pown(client)?;
        holder.remove(client)
    };
    a_disk_that_fails(53, 1024, act, "log/");
}

#[test]
fn a_full_disk_under_the_coins_loses_nothing_that_was_answered() {
    // The segments have room, coins beyond page 154 of a denomination have not: breaking makes some.
    a_disk_that_fails(331, 8192, Holder::act, "coins/");
}

#[test]
fn a_start_that_finds_no_room_says_so_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::new(folder.path().join("data"), 3, 53);
    assert!(Node::start(&lab.data, 1).stop().status.success());
    let line = refused(limited(1024, &serve(&lab.data, 2)), MACHINE);
    assert!(line.contains("cannot create log/1.new/segment-0: File too large"), "{line}");
    let node = Node::start(&lab.data, 2);
    lab.agrees(&node);
}

/// Gives a tree to nobody to write.
fn forbid_writing(path: &Path) {
    let (mode, inside) = match path.is_dir() {
        true => (0o555, fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect()),
        false => (0o444, Vec::new()),
    };
    inside.iter().for_each(|path: &PathBuf| forbid_writing(path));
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_in_one_line() {
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    recovery::initialise(&Directory::open(&data).unwrap(), Default::default()).unwrap();
    let words = serve(&data, 1);
    let mut command = command(&words);
    if folder.path().metadata().unwrap().uid() == 0 {
        // Permissions do not bind root: nobody runs it, from where he may.
        let program = folder.path().join("raida");
        fs::copy(command.get_program(), &program).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        command = Command::new(&program);
        command.args(&words).env_remove("RUST_LOG").uid(NOBODY).gid(NOBODY);
        if let Err(error) = Command::new("true").uid(NOBODY).gid(NOBODY).status() {
            println!("skipped: root cannot become nobody here: {error}");
            return;
        }
    }
    forbid_writing(&data);
    let line = refused(command, MACHINE);
    assert!(line.contains("data/lock: Permission denied"), "{line}");
    // So that the folder can be removed.
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    for directory in ["coins", "log", "log/0"] {
        fs::set_permissions(data.join(directory), Permissions::from_mode(0o755)).unwrap();
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A bit flips at each of these places.
    Flip(&'static [u64]),
    /// The file ends there.
    Truncate(u64),
}

/// A damaged file, and what it was.
struct Damaged {
    path: PathBuf,
    before: Vec<u8>,
}

impl Damaged {
    fn new(path: PathBuf, damage: Damage) -> Self {
        let before = fs::read(&path).unwrap();
        match damage {
            Damage::Flip(places) => {
                let mut bytes = before.clone();
                places.iter().for_each(|&at| bytes[at as usize] ^= 1);
                write_over(&path, &bytes);
            }
            Damage::Truncate(length) => {
                File::options().write(true).open(&path).and_then(|file| file.set_len(length)).unwrap();
            }
        }
        Self { path, before }
    }

    fn undo(&self) {
        write_over(&self.path, &self.before);
    }
}

/// Writes a file's bytes in their place, as the disk under it would change.
fn write_over(path: &Path, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).and_then(|()| file.sync_all()).unwrap();
}

/// What a start makes of a damage.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Start {
    Refuses,
    Serves,
    /// It depends on what was written last.
    Either,
}

/// Every kind of file damaged in two ways, and what a start makes of it after a kill and after a stop.
const DAMAGES: &[(&str, Damage, Start, Start)] = {
    use Damage::*;
    use Start::*;
    &[
        ("node", Flip(&[3]), Refuses, Refuses),
        ("node", Truncate(7), Refuses, Refuses),
        // Page 2 of denomination 0 is in use. After a kill the double-write area may have a whole copy.
        ("coins/08.pages", Flip(&[2 * 20_480 + 1000]), Either, Refuses),
        ("coins/08.pages", Truncate(20_480), Refuses, Refuses),
        ("log/0/control", Flip(&[30]), Serves, Serves),
        ("log/0/control", Flip(&[30, 4096 + 30]), Refuses, Refuses),
        ("log/0/control", Truncate(4096), Refuses, Refuses),
        ("log/0/double", Flip(&[10]), Serves, Serves),
        ("log/0/double", Truncate(0), Serves, Serves),
        ("log/0/orders-0", Flip(&[20]), Either, Either),
        ("log/0/orders-0", Truncate(0), Either, Either),
        ("log/0/orders-1", Flip(&[20]), Either, Either),
        ("log/0/orders-1", Truncate(0), Either, Either),
        // The first batch: all it says is in place after a stop.
        ("log/0/segment-0", Flip(&[100]), Refuses, Serves),
        ("log/0/segment-0", Truncate(4096), Refuses, Refuses),
        ("log/0/segment-2", Flip(&[100]), Serves, Serves),
        ("log/0/segment-2", Truncate(0), Refuses, Refuses),
    ]
};

/// Some work, an end, a damage, a start: for each damage.
fn damaged_while_it_is_down(seed: u64, end: impl Fn(Node), expected: impl Fn(Start, Start) -> Start) {
    let folder = tempfile::tempdir().unwrap();
    let mut lab = Lab::new(folder.path().join("data"), seed, 331);
    let mut node = Node::start(&lab.data, 1);
    let mut refusals = 0;
    for (round, &(file, damage, after_kill, after_stop)) in (1..).zip(DAMAGES) {
        // Few enough that everything is in the first segment of a log that is new at every start.
        let act = |holder: &mut Holder, client: &mut NetClient| match holder.written < 3 * round {
            true => [Holder::store, Holder::trade, Holder::pown][holder.written as usize % 3](holder, client),
            false => Err(std::io::Error::other("enough")),
        };
        lab.work(node.address(), act, || {});
        end(node);
        let damaged = Damaged::new(lab.data.join(file), damage);
        let expected = expected(after_kill, after_stop);
        match Node::try_start(command(&serve(&lab.data, 1))) {
            Ok(serves) => {
                assert_ne!(expected, Start::Refuses, "{file} {damage:?}");
                node = serves;
            }
            Err(ended) => {
                assert_ne!(expected, Start::Serves, "{file} {damage:?}: {ended:?}");
                let line = the_error(&ended, DATA);
                assert!(line.contains(file), "{file} {damage:?}: {line}");
                refusals += 1;
                damaged.undo();
                node = Node::start(&lab.data, 1);
            }
        }
        lab.agrees(&node);
    }
    assert!(refusals >= DAMAGES.len() / 2, "{refusals}");
}

#[test]
fn files_damaged_after_a_kill() {
    damaged_while_it_is_down(1, Node::kill, |after_kill, _| after_kill);
}

#[test]
fn files_damaged_after_a_stop() {
    let stop = |node: Node| {
        let ended = node.stop();
        assert!(ended.status.success(), "{ended:?}");
    };
    damaged_while_it_is_down(2, stop, |_, after_stop| after_stop);
}

#[test]
fn a_page_damaged_while_it_serves_is_named_and_all_others_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    // A coin on each of 40 pages of one denomination; the last page is the one that is damaged.
    let coins: Vec<(CoinId, Secret)> =
        (0..40).map(|page| (CoinId::new(0, page * 1024).unwrap(), Secret::new([page as u8; 16]))).collect();
    {
        let storage = Directory::open(&data).unwrap();
        recovery::initialise(&storage, Default::default()).unwrap();
        World::mint(&storage, &coins, 10);
    }
    let (victim, others) = coins.split_last().expect("coins");
    let page = victim.0.page();
    let (path, at) = (data.join(files::coins(page.denomination())), files::page_offset(page));
    let detect = |node: &Node, coins: &[(CoinId, Secret)]| {
        let bytes = items::bytes_of(coins.iter().map(|&(coin, an)| (RawCoin::from(coin), an)));
        let request = Request::Detect { coins: SecretCoins::new(&bytes).unwrap() };
        NetClient::tcp(node.address()).unwrap().call(&request).unwrap().0
    };
    let flip: &dyn Fn(&File) = &|file| file.write_all_at(&[0xA5; 9], at + 5000).unwrap();
    let zeros: &dyn Fn(&File) = &|file| file.write_all_at(&[0; PAGE_BYTES], at).unwrap();
    let truncate: &dyn Fn(&File) = &|file| file.set_len(at).unwrap();
    for (damage, at_start) in [(flip, "is damaged"), (zeros, "reads as zeros"), (truncate, "of another size")] {
        let node = Node::start(&data, 1);
        assert_eq!(detect(&node, &coins), Status::AllPass);
        // 39 others have put it out of a cache of 8.
        assert_eq!(detect(&node, others), Status::AllPass);
        let before = fs::read(&path).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        damage(&file);
        file.sync_all().unwrap();
        assert_eq!(detect(&node, &[*victim]), Status::Filesystem);
        assert_eq!(detect(&node, others), Status::AllPass);
        let ended = node.stop();
        assert!(ended.status.success(), "{ended:?}");
        assert!(ended.said.contains("page 39 of denomination 0 is damaged and not served"), "{}", ended.said);
        let line = refused(command(&serve(&data, 1)), DATA);
        assert!(line.contains("coins/08.pages") && line.contains(at_start), "{line}");
        write_over(&path, &before);
    }
    assert_eq!(detect(&Node::start(&data, 1), &coins), Status::AllPass);
}
