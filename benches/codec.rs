//! What one request costs between its bytes and its answer's bytes, everything but the coins: header, seal, decoding,
//! reply. A *store* of ten coins under each kind of encryption, and the XOR sum of its proof.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use raida::coin::Secret;
use raida::wire::header::{KeyName, NodeIdentity, parse};
use raida::wire::items::{Coins, RawCoin, bytes_of};
use raida::wire::reply::{ReplyHead, write};
use raida::wire::request::Request;
use raida::wire::seal::{Key, RequestRandom, open, seal};
use raida::wire::status::Status;

const NODE: NodeIdentity = NodeIdentity { raida_id: 0, coin_id: 6 };
const AN: Secret = Secret::new([0x5A; 16]);
const KEY_COIN: RawCoin = RawCoin { den: 0, sn: 1 };

/// Each encryption: its name, how the header names the key, the key.
fn encryptions() -> [(&'static str, KeyName, Key); 3] {
    [
        ("type 0", KeyName::None, Key::None),
        ("type 1", KeyName::Coin(KEY_COIN), Key::of_secret(AN)),
        ("type 4", KeyName::Coin256(KEY_COIN), Key::of_coin(&AN)),
    ]
}

fn request_to_answer(criterion: &mut Criterion) {
    let coins = bytes_of((0..10).map(|sn| RawCoin { den: 0, sn }));
    let mut locker = [1; 16];
    locker[12..].fill(0xFF);
    let store = Request::Store { coins: Coins::new(&coins).expect("whole coins"), sum: AN, key: Secret::new(locker) };
    let mut sent = Vec::new();
    store.encode(&mut sent);

    let mut group = criterion.benchmark_group("request to answer");
    group.throughput(Throughput::Elements(1));
    for (name, key_name, key) in encryptions() {
        let mut frame = Vec::new();
        let random = RequestRandom { nonce: [7; 24], challenge: [8; 12] };
        seal(&mut frame, NODE, store.command(), (key_name, &key), &sent, random).expect("a short payload");
        let (mut payload, mut answer) = (Vec::new(), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let frame = black_box(frame.as_slice());
                let header = parse(frame, &NODE).expect("a header");
                let body = header.body(frame).expect("a body");
                let opened = open(&header, &key, body, &mut payload).expect("a key that fits");
                assert!(Request::decode(header.command, &payload).is_ok());
                answer.clear();
                let head = ReplyHead::new(&header, opened);
                write(&mut answer, &head, &key, Status::AllPass, 1, &[], [9; 24]);
                answer.len()
            });
        });
    }
    group.finish();
}

fn xor_sum(criterion: &mut Criterion) {
    let ans: Vec<Secret> = (0..=255).map(|byte| Secret::new([byte; 16])).collect();
    let mut group = criterion.benchmark_group("XOR sum");
    group.throughput(Throughput::Elements(ans.len() as u64));
    group.bench_function("256 ANs", |bencher| {
        bencher.iter(|| black_box(&ans).iter().fold(Secret::default(), |sum, an| sum.xor(*an)));
    });
    group.finish();
}

criterion_group!(benches, request_to_answer, xor_sum);
criterion_main!(benches);
