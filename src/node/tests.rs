//! Whole nodes in this process: what is answered is there after a stop, after a fall, and for any number of shards.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use super::*;
use crate::coin::{CoinId, CoinRecord, Months, Secret};
use crate::store::control::UsedPages;
use crate::store::layout::PageFrame;
use crate::store::pages::{PageWriter, read_page};
use crate::store::storage::Storage;
use crate::store::wal::record_bytes;

const PATIENCE: Duration = Duration::from_secs(30);
const SUCCESS: u8 = 250;
const ALL_PASS: u8 = 241;
const ALL_FAIL: u8 = 242;

/// Small logs and caches, so that checkpoints and evictions happen.
fn options(data: &Path, shards: u8) -> NodeOptions {
    let mut config = Config::default();
    config.server.threads = shards;
    config.store.cache_pages = 8;
    let geometry = Geometry {
        segment_bytes: 128 << 10,
        segments: 3,
        batch_bytes_max: 64 << 10,
        record_bytes_max: record_bytes(1000, 1),
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    NodeOptions { geometry, listen, ..NodeOptions::new(data, &config) }
}

/// The AN that a coin is minted with.
fn an(sn: u32) -> [u8; 16] {
    let mut an = [0x5A; 16];
    an[..4].copy_from_slice(&sn.to_be_bytes());
    an
}

/// A data directory with coins of denomination 0, one in each of the first pages.
fn directory(sns: &[u32]) -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let storage = Directory::open(data.path()).unwrap();
    recovery::initialise(&storage, Geometry::default()).unwrap();
    let mut writer = PageWriter::new(&storage, 0);
    for &sn in sns {
        let coin = CoinId::new(0, sn).unwrap();
        let mut frame = PageFrame::zeroed();
        read_page(&storage, coin.page(), &UsedPages::none(), &mut frame).unwrap();
        frame.set_record(coin.slot(), CoinRecord { an: Secret::new(an(sn)), mfs: Months::new(45) });
        frame.seal(coin.page(), 0);
        writer.add(coin.page(), &frame).unwrap();
    }
    writer.finish().unwrap();
    storage.sync_directory("").unwrap();
    data
}

/// A coin in each of `count` pages, which belong to shards in turn.
fn spread(count: u32) -> Vec<u32> {
    (0..count).map(|page| page * 1024 + page).collect()
}

/// A type 0 request.
fn request(group: u8, command: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 0, 0, group, command, 0, 6];
    frame.resize(32, 0);
    let body_length = (16 + payload.len() + 2) as u16;
    frame[22..24].copy_from_slice(&body_length.to_be_bytes());
    let challenge = [9; 12];
    frame.extend_from_slice(&challenge);
    frame.extend_from_slice(&crc32fast::hash(&challenge).to_be_bytes());
    frame.extend_from_slice(payload);
    frame.extend_from_slice(b">>");
    frame
}

/// The payload that stores coins in a locker: its members, the sum of their ANs, the key.
fn store(sns: &[u32], key: [u8; 16]) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut sum = [0; 16];
    for &sn in sns {
        payload.push(0);
        payload.extend_from_slice(&sn.to_be_bytes());
        sum.iter_mut().zip(an(sn)).for_each(|(sum, byte)| *sum ^= byte);
    }
    [&payload[..], &sum, &key].concat()
}

fn key(number: u8) -> [u8; 16] {
    let mut key = [number; 16];
    key[12..].fill(0xFF);
    key
}

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_answer(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 32];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize];
    stream.read_exact(&mut body).unwrap();
    body.truncate(body.len().saturating_sub(2));
    (header[2], body)
}

fn call(stream: &mut TcpStream, group: u8, command: u8, payload: &[u8]) -> (u8, Vec<u8>) {
    stream.write_all(&request(group, command, payload)).unwrap();
    read_answer(stream)
}

/// The serial numbers in a locker, in order; all its coins are of denomination 0.
fn peek(stream: &mut TcpStream, key: [u8; 16]) -> Vec<u32> {
    let (status, payload) = call(stream, 8, 83, &key);
    if status == ALL_FAIL {
        return Vec::new();
    }
    assert_eq!(status, ALL_PASS);
    let mut sns: Vec<u32> =
        payload.chunks_exact(5).map(|coin| u32::from_be_bytes([coin[1], coin[2], coin[3], coin[4]])).collect();
    sns.sort_unstable();
    sns
}

#[test]
fn any_number_of_shards_serves_both_transports() {
    let data = directory(&spread(10));
    for shards in [1, 2, 4] {
        let node = Node::start(options(data.path(), shards)).unwrap();
        assert_eq!((node.shards(), node.inventory().coins), (shards, 10));
        let mut stream = connect(&node);
        assert_eq!(call(&mut stream, 0, 0, b""), (SUCCESS, Vec::new()));
        let (status, counts) = call(&mut stream, 0, 3, b"");
        assert_eq!((status, &counts[8 * 5..9 * 5]), (SUCCESS, &[0, 0, 0, 0, 10][..]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(node.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&request(0, 3, b"")).unwrap();
        let mut answer = [0; 200];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!((answer[2], &answer[32..length - 2]), (SUCCESS, &counts[..]));
        node.stop().unwrap();
    }
}

#[test]
fn what_is_answered_is_there_after_a_stop_and_after_a_fall() {
    let sns = spread(60);
    let data = directory(&sns);
    let lives = [(1, true), (4, false), (2, true), (3, false), (1, false), (2, true)];
    for (life, (shards, stops)) in lives.into_iter().enumerate() {
        let node = Node::start(options(data.path(), shards)).unwrap();
        assert_eq!(node.inventory().coins, 60);
        assert_eq!(node.inventory().lockers, life as u64);
        let mut stream = connect(&node);
        for earlier in 0..life {
            assert_eq!(peek(&mut stream, key(earlier as u8)), sns[earlier * 10..][..10]);
        }
        // Ten coins, of pages of all shards.
        let coins = &sns[life * 10..][..10];
        assert_eq!(call(&mut stream, 8, 82, &store(coins, key(life as u8))).0, ALL_PASS);
        assert_eq!(peek(&mut stream, key(life as u8)), coins);
        if stops {
            node.stop().unwrap();
        } else {
            drop(node);
        }
    }
}

#[test]
fn many_clients_put_and_take_at_once() {
    let sns = spread(64);
    let data = directory(&sns);
    let node = Node::start(options(data.path(), 2)).unwrap();
    thread::scope(|scope| {
        for (client, coins) in sns.chunks(8).enumerate() {
            let mut stream = connect(&node);
            scope.spawn(move || {
                let key = key(client as u8);
                for _ in 0..20 {
                    assert_eq!(call(&mut stream, 8, 82, &store(coins, key)).0, ALL_PASS);
                    assert_eq!(peek(&mut stream, key), coins);
                    // All are taken out at once, by requests that do not wait for each other.
                    for &sn in coins {
                        let coin = [&[0][..], &sn.to_be_bytes(), &an(sn)].concat();
                        stream.write_all(&request(8, 84, &[&key[..], &coin].concat())).unwrap();
                    }
                    for _ in coins {
                        assert_eq!(read_answer(&mut stream).0, ALL_PASS);
                    }
                }
            });
        }
    });
    let counters = node.stop().unwrap();
    assert_eq!(counters.iter().map(|counters| counters.requests).sum::<u64>(), 8 * 20 * (1 + 1 + 8));
    assert!(counters.iter().all(|counters| counters.disk_operations > 0 && counters.disk_failures == 0));
    assert_eq!(Node::start(options(data.path(), 3)).unwrap().inventory().coins, 64);
}

#[test]
fn a_second_node_is_refused() {
    let data = directory(&[]);
    let node = Node::start(options(data.path(), 1)).unwrap();
    let locked = Node::start(options(data.path(), 1)).err().unwrap();
    assert!(matches!(locked, StartError::Store(StoreError::Locked { .. })), "{locked}");
    let other = directory(&[]);
    let taken = NodeOptions { listen: node.address(), ..options(other.path(), 1) };
    let error = Node::start(taken).err().unwrap();
    assert!(matches!(error, StartError::Address { .. }), "{error}");
    let nowhere = NodeOptions { cpus: vec![1023], ..options(other.path(), 1) };
    let error = Node::start(nowhere).err().unwrap();
    assert!(error.to_string().contains("processor 1023"), "{error}");
    node.stop().unwrap();
}

/// Where a disk is so full that recovery fails, lower bounds of the archive must help: they count before it.
#[test]
fn the_archive_is_kept_within_its_bounds_before_recovery() {
    let data = directory(&[]);
    let archive = data.path().join("archive");
    let old = archive.join("00000000000000000001-00000000000000000009-00.log");
    fs::create_dir(&archive).unwrap();
    fs::write(&old, [0; 100]).unwrap();
    fs::remove_file(data.path().join("coins/14.pages")).unwrap();
    let options = options(data.path(), 1);
    Node::start(options.clone()).err().unwrap();
    assert!(old.exists());
    let retention = Retention { bytes_max: 99, ..options.retention };
    Node::start(NodeOptions { retention, ..options }).err().unwrap();
    assert!(!old.exists());
}

#[test]
fn several_nodes_live_in_one_process() {
    let directories = [directory(&spread(1)), directory(&spread(2)), directory(&spread(3))];
    let nodes: Vec<_> = directories.iter().map(|data| Node::start(options(data.path(), 2)).unwrap()).collect();
    for (node, coins) in nodes.iter().zip(1..) {
        assert_eq!(node.inventory().coins, coins);
        assert_eq!(call(&mut connect(node), 0, 0, b"").0, SUCCESS);
    }
    nodes.into_iter().for_each(|node| drop(node.stop().unwrap()));
}
