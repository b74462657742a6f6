//! What a shard's views cost: the search for free coins, almost nothing and almost everything being taken, and the
//! look-up of a locker among few and among many.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use raida::coin::{COINS_PER_PAGE, CoinId, Denomination, PAGES_PER_DENOMINATION, PageNumber, Secret};
use raida::entropy::Entropy;
use raida::shard::free_map::{FreeMap, SearchPages, WordNumber};
use raida::shard::interface::ShardId;
use raida::shard::keyed_hash::KeyedHash;
use raida::shard::lockers::Lockers;

/// What *get available change SNs* asks for.
const WANTED_COINS: usize = 64;

/// Bytes that are the same in every run.
struct Counting(u8);

impl Entropy for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| {
            self.0 = self.0.wrapping_add(37);
            self.0
        });
    }
}

/// Every coin of the denomination.
fn coins_of(den: Denomination) -> impl Iterator<Item = CoinId> {
    (0..PAGES_PER_DENOMINATION)
        .map(move |page| PageNumber::of(den, page).expect("a page"))
        .flat_map(|page| (0..COINS_PER_PAGE as usize).map(move |slot| page.coin(slot)))
}

/// Which coins are taken.
type IsTaken = fn(CoinId) -> bool;

fn free_map_search(criterion: &mut Criterion) {
    let den = Denomination::SMALLEST;
    let mut group = criterion.benchmark_group("free map search");
    // All free; one coin of ten thousand free; the last page alone free.
    let filled: [(&str, IsTaken); 3] = [
        ("all free", |_| false),
        ("one of 10,000 free", |coin| coin.number() % 10_000 != 0),
        ("the last page free", |coin| coin.page().in_denomination() != PAGES_PER_DENOMINATION - 1),
    ];
    for (name, is_taken) in filled {
        let mut map = FreeMap::new(ShardId(0), 1);
        coins_of(den).filter(|coin| is_taken(*coin)).for_each(|coin| map.set_free(coin, false));
        let start = WordNumber::in_denomination(den, 7).expect("a word");
        let mut found = Vec::with_capacity(WANTED_COINS);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                found.clear();
                map.search(black_box(start), SearchPages::All, WANTED_COINS, |_| true, &mut found);
                found.len()
            });
        });
    }
    group.finish();
}

fn locker_look_up(criterion: &mut Criterion) {
    let key = |number: u32| {
        let mut bytes = [0xFF; 16];
        bytes[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
        Secret::new(bytes)
    };
    let mut group = criterion.benchmark_group("locker look-up");
    for count in [100, 1_000_000u32] {
        let mut lockers = Lockers::new(KeyedHash::new(&mut Counting(0)));
        for number in 0..count {
            lockers.enter(&key(number), CoinId::from_number(number).expect("a coin"));
        }
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            let mut number = 0;
            bencher.iter(|| {
                number = (number + 1) % count;
                lockers.coins(black_box(&key(number))).map(|coins| coins.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, free_map_search, locker_look_up);
criterion_main!(benches);
