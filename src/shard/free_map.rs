//! Which coins of a shard are free: one bit a coin, two levels of summary above, and counts.
//!
//! A view: a pure function of the coins' records, changed by the one write path
//! alone and rebuilt by it. *Get available change SNs* searches it.
//!
//! Levels, 1 meaning free: a bit a coin; a bit a word of 64 coins, where any is free;
//! a bit a page of 16 words, where any is free. A denomination of which one coin in ten
//! thousand is free is searched in a few hundred instructions all the same.
//!
//! Invariant: a summary bit is set exactly where something below it is; `free` counts the free bits.

use std::ops::Range;

use bitvec::prelude::{BitBox, Lsb0, bitvec};

use crate::coin::{
    COINS, COINS_PER_PAGE, CoinId, DENOMINATIONS, Denomination, PAGES_PER_DENOMINATION, PageNumber, SERIAL_NUMBERS,
    SerialNumber,
};

use super::interface::ShardId;
use super::partition::PageSlots;
use crate::command::question::PageBits;
use crate::entropy::mix;

/// Coins of a word.
pub const COINS_PER_WORD: u32 = u64::BITS;
/// Words of a page.
pub const WORDS_PER_PAGE: u16 = COINS_PER_PAGE / COINS_PER_WORD as u16;
/// Words of a denomination.
pub const WORDS_PER_DENOMINATION: u16 = PAGES_PER_DENOMINATION * WORDS_PER_PAGE;
/// Words of a node.
pub const WORDS: u32 = COINS / COINS_PER_WORD;

const PAGE_WORDS: usize = WORDS_PER_PAGE as usize;

/// 64 serial numbers that follow each other, 0..240,000: the unit of a search and of a reservation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WordNumber(u32);

impl WordNumber {
    /// The word of a number, `None` from 240,000 up.
    pub const fn new(number: u32) -> Option<Self> {
        if number < WORDS { Some(Self(number)) } else { None }
    }

    /// The word of a denomination by its number there, 0..16,000; `None` from 16,000 up.
    pub const fn in_denomination(den: Denomination, number: u16) -> Option<Self> {
        if number < WORDS_PER_DENOMINATION {
            Some(Self(den.index() as u32 * WORDS_PER_DENOMINATION as u32 + number as u32))
        } else {
            None
        }
    }

    /// The word of a coin.
    pub const fn of(coin: CoinId) -> Self {
        Self(coin.number() / COINS_PER_WORD)
    }

    /// The word at a place of a page, 0..16.
    const fn of_page(page: PageNumber, in_page: usize) -> Self {
        Self(page.get() as u32 * WORDS_PER_PAGE as u32 + in_page as u32)
    }

    /// 0..240,000.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The page of its coins.
    pub fn page(self) -> PageNumber {
        PageNumber::new((self.0 / u32::from(WORDS_PER_PAGE)) as u16).expect("a word lies on a page")
    }

    /// Its place in that page, 0..16.
    pub const fn in_page(self) -> usize {
        self.0 as usize % PAGE_WORDS
    }

    /// The coin of one of its bits.
    ///
    /// # Panics
    /// When `bit` is 64 or more.
    pub fn coin(self, bit: u32) -> CoinId {
        assert!(bit < COINS_PER_WORD);
        CoinId::from_number(self.0 * COINS_PER_WORD + bit).expect("a coin of the word")
    }

    /// Where a session's search starts: a hash of both, so that nodes with equal free maps offer one session the same
    /// serial numbers without talking, and different sessions different ones.
    pub fn search_start(session: u32, den: Denomination) -> Self {
        let hash = mix(u64::from(session) << 8 | den.index() as u64);
        let number = (hash % u64::from(WORDS_PER_DENOMINATION)) as u16;
        Self::in_denomination(den, number).expect("a word of the denomination")
    }

    /// Its place among the words of its shard.
    ///
    /// # Panics
    /// When it is another shard's.
    pub fn slot(self, slots: PageSlots) -> WordSlot {
        WordSlot::of_page(slots.slot(self.page()), self.in_page())
    }

    /// Its place, 0..16,000, in the order in which a search from `start` visits the words of the denomination:
    /// the page of `start` from there on and around, then the pages that follow and around, words 0..16 of each.
    /// The number of shards does not matter to it.
    ///
    /// # Panics
    /// When the two are of different denominations.
    pub fn rank_from(self, start: Self) -> u16 {
        let (page, first) = (self.page(), start.page());
        assert_eq!(page.denomination(), first.denomination());
        if page == first {
            ((self.in_page() + PAGE_WORDS - start.in_page()) % PAGE_WORDS) as u16
        } else {
            let pages = page.in_denomination() + PAGES_PER_DENOMINATION - first.in_denomination();
            pages % PAGES_PER_DENOMINATION * WORDS_PER_PAGE + self.in_page() as u16
        }
    }
}

/// The place of a word among its shard's: what a shard keeps per word is an array of 16 for each of its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WordSlot(u32);

impl WordSlot {
    /// The place of a word of the page at `page_slot`, see [`PageSlots`].
    const fn of_page(page_slot: usize, in_page: usize) -> Self {
        Self((page_slot * PAGE_WORDS + in_page) as u32)
    }

    /// Its number, for indexing.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The places of the words of these pages' places.
    pub fn of_pages(pages: Range<usize>) -> impl Iterator<Item = Self> {
        (pages.start * PAGE_WORDS..pages.end * PAGE_WORDS).map(|slot| Self(slot as u32))
    }
}

/// Which pages of the denomination a search visits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SearchPages {
    /// The page of the start.
    FirstPage,
    /// All but the page of the start.
    OtherPages,
    /// All.
    All,
}

/// A word with free coins, as a search found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundWord {
    /// Its place in the order of the search, see [`WordNumber::rank_from`].
    pub rank: u16,
    /// Which.
    pub word: WordNumber,
    /// Its free coins, bit 0 the lowest serial number; never 0.
    pub free: u64,
}

impl FoundWord {
    /// The serial numbers of its free coins, in order.
    pub fn serial_numbers(self) -> impl Iterator<Item = SerialNumber> {
        let first = self.word.coin(0).serial_number().get();
        ones(self.free).map(move |bit| SerialNumber::new(first + bit as u32).expect("words lie in one denomination"))
    }
}

/// Which coins of a shard are free.
#[derive(Clone)]
pub struct FreeMap {
    slots: PageSlots,
    coins: BitBox<u64, Lsb0>,
    words: BitBox<u64, Lsb0>,
    pages: BitBox<u64, Lsb0>,
    in_circulation: [u32; DENOMINATIONS],
}

impl FreeMap {
    /// The map of `shard` of `shards`; all its coins are free.
    pub fn new(shard: ShardId, shards: u8) -> Self {
        let slots = PageSlots::new(shard, shards);
        let ones = |bits: usize| bitvec![u64, Lsb0; 1; bits].into_boxed_bitslice();
        Self {
            slots,
            coins: ones(slots.len() * COINS_PER_PAGE as usize),
            words: ones(slots.len() * PAGE_WORDS),
            pages: ones(slots.len()),
            in_circulation: [0; DENOMINATIONS],
        }
    }

    /// Whether a coin is free.
    ///
    /// # Panics
    /// When it is another shard's.
    pub fn is_free(&self, coin: CoinId) -> bool {
        self.coins[self.bit(coin)]
    }

    /// Notes whether a coin is free.
    ///
    /// # Panics
    /// When it is another shard's.
    pub fn set_free(&mut self, coin: CoinId, free: bool) {
        let bit = self.bit(coin);
        if self.coins.replace(bit, free) == free {
            return;
        }
        let word = bit / COINS_PER_WORD as usize;
        self.words.set(word, self.coins.as_raw_slice()[word] != 0);
        let page = word / PAGE_WORDS;
        let any_free = self.words_of(page) != 0;
        self.pages.set(page, any_free);
        let count = &mut self.in_circulation[coin.denomination().index()];
        *count = if free { *count - 1 } else { *count + 1 };
    }

    /// Notes which coins of a page are free: a bit a coin, words and bits in their order.
    ///
    /// # Panics
    /// When it is another shard's.
    pub fn set_page(&mut self, page: PageNumber, free: &[u64; PAGE_WORDS]) {
        let slot = self.slots.slot(page);
        let first = slot * PAGE_WORDS;
        let ones = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        let words = &mut self.coins.as_raw_mut_slice()[first..first + PAGE_WORDS];
        let count = &mut self.in_circulation[page.denomination().index()];
        *count = *count + ones(words) - ones(free);
        words.copy_from_slice(free);
        for (word, free) in (first..).zip(free) {
            self.words.set(word, *free != 0);
        }
        self.pages.set(slot, free.iter().any(|free| *free != 0));
    }

    /// How many of the shard's coins of a denomination are in circulation.
    pub fn in_circulation(&self, den: Denomination) -> u32 {
        self.in_circulation[den.index()]
    }

    /// Which of the shard's coins of a denomination are in circulation, page by page: a bit a coin, least significant
    /// first.
    pub fn in_circulation_of(&self, den: Denomination, mut page: impl FnMut(PageNumber, PageBits)) {
        for slot in self.slots.of(den) {
            let mut bits = [0; size_of::<PageBits>()];
            let words = &self.coins.as_raw_slice()[slot * PAGE_WORDS..(slot + 1) * PAGE_WORDS];
            for (bytes, free) in bits.chunks_exact_mut(8).zip(words) {
                bytes.copy_from_slice(&(!free).to_le_bytes());
            }
            page(self.slots.page(slot), bits);
        }
    }

    /// How many of the shard's coins of a denomination are free.
    pub fn free(&self, den: Denomination) -> u32 {
        self.slots.of(den).len() as u32 * u32::from(COINS_PER_PAGE) - self.in_circulation(den)
    }

    /// Adds words with free coins to `found`, in the order of [`WordNumber::rank_from`]`(start)`, until they
    /// have `wanted_coins` between them or the shard has no more. Only the shard's own pages are visited, and of
    /// the words with free coins only those that `take` accepts are taken; it is asked once for each.
    ///
    /// Full words cost nothing; words with free coins that `take` refuses cost a call each, 16,000 at the most.
    /// The shards' finds, merged by rank, are what one shard with all pages would have found.
    pub fn search(
        &self,
        start: WordNumber,
        which: SearchPages,
        wanted_coins: usize,
        mut take: impl FnMut(WordSlot) -> bool,
        found: &mut Vec<FoundWord>,
    ) {
        if wanted_coins == 0 {
            return;
        }
        let first = start.page();
        let mut coins = 0;
        // Looks at a word with free coins; says whether to go on.
        let mut look = |page: PageNumber, page_slot: usize, in_page: usize, rank: u16| {
            let slot = WordSlot::of_page(page_slot, in_page);
            if take(slot) {
                let free = self.word(slot);
                found.push(FoundWord { rank, word: WordNumber::of_page(page, in_page), free });
                coins += free.count_ones() as usize;
            }
            coins < wanted_coins
        };
        if which != SearchPages::OtherPages && self.slots.owns(first) {
            let slot = self.slots.slot(first);
            // Bit i of the turned words is the word i after the start, around the page.
            let words = self.words_of(slot).rotate_right(start.in_page() as u32);
            if !ones(words).all(|after| look(first, slot, (start.in_page() + after) % PAGE_WORDS, after as u16)) {
                return;
            }
        }
        if which != SearchPages::FirstPage {
            let slots = self.slots.of(first.denomination());
            let (after, before) = (self.slots.first_at(first.get() + 1), self.slots.first_at(first.get()));
            for (part, wrapped) in [(after..slots.end, 0), (slots.start..before, PAGES_PER_DENOMINATION)] {
                for slot in ones_of(self.pages.as_raw_slice(), part) {
                    let page = self.slots.page(slot);
                    let rank = (page.get() + wrapped - first.get()) * WORDS_PER_PAGE;
                    if !ones(self.words_of(slot)).all(|in_page| look(page, slot, in_page, rank + in_page as u16)) {
                        return;
                    }
                }
            }
        }
    }

    /// The free coins of a word, bit 0 the lowest serial number.
    pub fn word(&self, word: WordSlot) -> u64 {
        self.coins.as_raw_slice()[word.index()]
    }

    /// How many of the shard's words of a denomination have free coins.
    pub fn words_with_free(&self, den: Denomination) -> u32 {
        let pages = self.slots.of(den);
        self.words[pages.start * PAGE_WORDS..pages.end * PAGE_WORDS].count_ones() as u32
    }

    /// The summary of a page's 16 words.
    fn words_of(&self, slot: usize) -> u16 {
        const PAGES_PER_RAW: usize = u64::BITS as usize / PAGE_WORDS;
        (self.words.as_raw_slice()[slot / PAGES_PER_RAW] >> (slot % PAGES_PER_RAW * PAGE_WORDS)) as u16
    }

    fn bit(&self, coin: CoinId) -> usize {
        self.slots.slot(coin.page()) * COINS_PER_PAGE as usize + coin.slot()
    }
}

/// The places of the set bits in a range of many, the lowest first.
fn ones_of(bits: &[u64], range: Range<usize>) -> impl Iterator<Item = usize> {
    const BITS: usize = u64::BITS as usize;
    (range.start / BITS..range.end.div_ceil(BITS)).flat_map(move |at| {
        let first = at * BITS;
        let (from, to) = (range.start.saturating_sub(first), (range.end - first).min(BITS));
        let mask = u64::MAX << from & u64::MAX >> (BITS - to);
        ones(bits[at] & mask).map(move |bit| first + bit)
    })
}

/// The places of the set bits, the lowest first.
fn ones(bits: impl Into<u64>) -> Ones {
    Ones(bits.into())
}

/// See [`ones`].
struct Ones(u64);

impl Iterator for Ones {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let at = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (at < u64::BITS).then_some(at as usize)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.0.count_ones() as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Ones {}

const _: () = assert!(SERIAL_NUMBERS == WORDS_PER_DENOMINATION as u32 * COINS_PER_WORD);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::partition::page_owner;
    use super::*;

    fn den() -> Denomination {
        Denomination::new(3).unwrap()
    }

    fn word(number: u16) -> WordNumber {
        WordNumber::in_denomination(den(), number).unwrap()
    }

    /// Maps of all shards, every coin of the denomination in circulation.
    fn full(shards: u8) -> Vec<FreeMap> {
        let mut maps: Vec<_> = (0..shards).map(|shard| FreeMap::new(ShardId(shard), shards)).collect();
        for coin in (0..WORDS_PER_DENOMINATION).flat_map(|number| (0..64).map(move |bit| word(number).coin(bit))) {
            maps[page_owner(coin.page(), shards).index()].set_free(coin, false);
        }
        maps
    }

    /// What the shards find, merged as a coordinator does.
    fn merged(maps: &[FreeMap], start: WordNumber, which: SearchPages, wanted: usize) -> Vec<FoundWord> {
        let mut found = Vec::new();
        maps.iter().for_each(|map| map.search(start, which, wanted, |_| true, &mut found));
        found.sort_by_key(|found| found.rank);
        let mut coins = 0;
        found.retain(|found| {
            let more = coins < wanted;
            coins += found.free.count_ones() as usize;
            more
        });
        found
    }

    #[test]
    fn a_search_visits_its_page_around_then_the_others_around() {
        for start in [0, 5, 8_007, 15_984, 15_999] {
            let (page, in_page) = (start / 16, start % 16);
            let own = (0..16).map(|after| page * 16 + (in_page + after) % 16);
            let others = (1..1000).flat_map(|after| (0..16).map(move |word| (page + after) % 1000 * 16 + word));
            for (rank, number) in own.chain(others).enumerate() {
                assert_eq!(word(number).rank_from(word(start)), rank as u16);
            }
        }
    }

    #[test]
    fn coins_are_counted_by_denomination() {
        let mut map = FreeMap::new(ShardId(1), 2);
        let coins = [word(16).coin(0), word(16).coin(63), word(48).coin(7)];
        for coin in coins.into_iter().chain(coins) {
            map.set_free(coin, false);
            assert!(!map.is_free(coin));
        }
        assert_eq!(map.in_circulation(den()), 3);
        assert_eq!(map.free(den()), 512_000 - 3);
        let mut pages = Vec::new();
        map.in_circulation_of(den(), |page, bits| pages.push((page, bits)));
        assert_eq!(pages.len(), 500);
        for (page, bits) in pages {
            for slot in 0..1024 {
                assert_eq!(bits[slot / 8] >> (slot % 8) & 1 == 1, coins.contains(&page.coin(slot)), "{page:?} {slot}");
            }
        }
        map.set_free(coins[0], true);
        assert!(map.is_free(coins[0]));
        assert_eq!(map.in_circulation(den()), 2);
        assert_eq!(map.in_circulation(Denomination::SMALLEST), 0);
        assert_eq!(map.word(word(16).slot(map.slots)), u64::MAX >> 1);
    }

    #[test]
    fn a_search_of_a_new_map_takes_the_first_words() {
        let map = FreeMap::new(ShardId(0), 1);
        let mut found = Vec::new();
        map.search(word(7), SearchPages::All, 65, |_| true, &mut found);
        let expected = |rank, number| FoundWord { rank, word: word(number), free: u64::MAX };
        assert_eq!(found, [expected(0, 7), expected(1, 8)]);
        found.clear();
        map.search(word(7), SearchPages::OtherPages, 1, |_| true, &mut found);
        assert_eq!(found, [expected(16, 16)]);
        found.clear();
        map.search(word(7), SearchPages::All, 1, |slot| slot.index() % PAGE_WORDS == 3, &mut found);
        assert_eq!(found, [expected(12, 3)]);
        found.clear();
        map.search(word(7), SearchPages::All, 0, |_| true, &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_free() {
        assert_eq!(merged(&full(2), word(999), SearchPages::All, 1), []);
    }

    #[test]
    fn the_last_denominations_last_word_is_found() {
        let den = Denomination::LARGEST;
        let last = WordNumber::in_denomination(den, WORDS_PER_DENOMINATION - 1).unwrap();
        let mut found = Vec::new();
        for shard in 0..7 {
            FreeMap::new(ShardId(shard), 7).search(last, SearchPages::FirstPage, 1, |_| true, &mut found);
        }
        assert_eq!(found, [FoundWord { rank: 0, word: last, free: u64::MAX }]);
    }

    static FULL: LazyLock<[Vec<FreeMap>; 3]> = LazyLock::new(|| [full(1), full(2), full(3)]);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_number_of_shards_finds_what_is_free_in_order(
            start in prop_oneof![976u16..1020, 0u16..16_000],
            wanted in 0usize..200,
            changes in prop::collection::vec((0u16..56, 0u32..64, any::<bool>()), 0..200),
            many in prop::collection::vec(0u16..56, 0..4),
        ) {
            let start = word(start);
            // 28 words that follow each other, and as many spread over the denomination.
            let place = |near: u16| {
                word(if near < 28 { 984 + near } else { (near - 28) * 571 })
            };
            let all = many.into_iter().flat_map(|near| (0..64).map(move |bit| (near, bit, true)));
            let mut model: BTreeMap<WordNumber, u64> = BTreeMap::new();
            let mut maps = FULL.clone();
            for (near, bit, free) in changes.into_iter().chain(all) {
                let word = place(near);
                let bits = model.entry(word).or_default();
                *bits = if free { *bits | 1 << bit } else { *bits & !(1 << bit) };
                for maps in &mut maps {
                    let owner = page_owner(word.page(), maps.len() as u8);
                    maps[owner.index()].set_free(word.coin(bit), free);
                    prop_assert_eq!(maps[owner.index()].is_free(word.coin(bit)), free);
                }
            }
            let mut words: Vec<_> = model.into_iter().filter(|&(_, free)| free != 0).collect();
            words.sort_by_key(|(word, _)| word.rank_from(start));
            let free: u32 = words.iter().map(|(_, free)| free.count_ones()).sum();
            for maps in &maps {
                prop_assert_eq!(maps.iter().map(|map| map.free(den())).sum::<u32>(), free);
                let with_free = maps.iter().map(|map| map.words_with_free(den())).sum::<u32>();
                prop_assert_eq!(with_free as usize, words.len());
                for which in [SearchPages::FirstPage, SearchPages::OtherPages, SearchPages::All] {
                    let mut coins = 0;
                    let expected: Vec<_> = words
                        .iter()
                        .filter(|(word, _)| match which {
                            SearchPages::FirstPage => word.page() == start.page(),
                            SearchPages::OtherPages => word.page() != start.page(),
                            SearchPages::All => true,
                        })
                        .take_while(|(_, free)| {
                            let more = coins < wanted;
                            coins += free.count_ones() as usize;
                            more
                        })
                        .map(|&(word, free)| FoundWord { rank: word.rank_from(start), word, free })
                        .collect();
                    prop_assert_eq!(merged(maps, start, which, wanted), expected);
                }
            }
        }
    }
}
