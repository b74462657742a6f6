//! A look into a node that is at rest: its coins, wherever they are, and every view of them, against a model.
//!
//! The model's lists are made anew from its ANs each time, so this compares the node's views with their rebuild.

use std::collections::{BTreeMap, BTreeSet};

use super::World;
use super::model::{Model, price_of, value_of};
use crate::coin::{COINS_PER_PAGE, CoinId, Denomination, PageNumber, Place, Secret, TradeCoin};
use crate::shard::Shard;
use crate::shard::partition::{locker_home, market_home_of, page_owner};
use crate::store::files;
use crate::store::layout::{PAGE_BYTES, PageFrame, PageState};
use crate::store::pages::survey_page;
use crate::store::storage::{Memory, Storage};
use crate::store::verify::Survey;

/// Compares a node at rest with a model.
///
/// # Errors
/// The first thing that is not as the model says.
pub fn audit(world: &World, model: &Model) -> Result<(), String> {
    if world.suspensions != model.suspensions() {
        return Err("other lockers are held, or another market paused, than should be".to_owned());
    }
    let shards = world.settings.shards;
    let shard_of = |page: PageNumber| world.shard(page_owner(page, shards).0);
    let mut frame = PageFrame::zeroed();
    for page in pages_used(world) {
        let shard = shard_of(page);
        let frame = match shard.pages.peek(page) {
            Some(cached) => cached,
            None => {
                let read = world.storage.read_at(
                    &files::coins(page.denomination()),
                    files::page_offset(page),
                    frame.bytes_mut(),
                );
                read.map_err(|error| error.to_string())?;
                if frame.state(page) == PageState::Damaged {
                    continue; // rot: it is not served
                }
                &frame
            }
        };
        page_is(page, frame, shard, model)?;
    }
    if let Some(coin) = model.ans.keys().find(|coin| shard_of(coin.page()).free_map.is_free(**coin)) {
        return Err(format!("{coin:?} is in circulation, and free in the map"));
    }
    (0..shards).try_for_each(|shard| views_are(world.shard(shard), shard, world, model))
}

/// Every page that anything was written to, in memory or on disk.
fn pages_used(world: &World) -> BTreeSet<PageNumber> {
    let cached = |shard| world.shard(shard).pages.present();
    (0..world.settings.shards).flat_map(cached).chain(pages_with_data(&world.storage)).collect()
}

/// Every page that anything was written to on disk.
fn pages_with_data(storage: &Memory) -> BTreeSet<PageNumber> {
    let mut pages = BTreeSet::new();
    for den in Denomination::all() {
        let path = files::coins(den);
        let mut at = 0;
        while let Ok(Some(data)) = storage.data_from(&path, at) {
            let in_denomination = (data / PAGE_BYTES as u64) as u16;
            pages.extend(PageNumber::of(den, in_denomination));
            at = (u64::from(in_denomination) + 1) * PAGE_BYTES as u64;
        }
    }
    pages
}

fn page_is(page: PageNumber, frame: &PageFrame, shard: &Shard, model: &Model) -> Result<(), String> {
    let mut expected = model.ans.range(page.coin(0)..=page.coin(COINS_PER_PAGE as usize - 1)).peekable();
    for slot in 0..COINS_PER_PAGE as usize {
        let (coin, record) = (page.coin(slot), frame.record(slot));
        let an = expected.next_if(|(next, _)| **next == coin).map(|(_, an)| an);
        match (an, record.is_free()) {
            (None, true) => {}
            (Some(an), false) if an.bytes() == record.an.bytes() => {}
            (None, false) => return Err(format!("{coin:?} is in circulation and should be free")),
            (Some(_), true) => return Err(format!("{coin:?} is free and should be in circulation")),
            (Some(_), false) => return Err(format!("{coin:?} has another AN than it should have")),
        }
        if record.is_free() != shard.free_map.is_free(coin) {
            return Err(format!("{coin:?} is not in the map of free coins as its record says"));
        }
    }
    Ok(())
}

/// The views of one shard.
fn views_are(shard: &Shard, number: u8, world: &World, model: &Model) -> Result<(), String> {
    let shards = world.settings.shards;
    let mut lockers: BTreeMap<[u8; 16], BTreeSet<CoinId>> = BTreeMap::new();
    let mut offers: BTreeMap<[u8; 16], BTreeSet<CoinId>> = BTreeMap::new();
    let mut circulation = [0; 15];
    for (&coin, an) in &model.ans {
        circulation[coin.denomination().index()] += u32::from(page_owner(coin.page(), shards).0 == number);
        match an.place() {
            Place::Locker(_) if locker_home(an, shards).0 == number => &mut lockers,
            Place::TradeLocker(_) if market_home_of(TradeCoin::Bitcoin, price_of(an), shards).0 == number => {
                &mut offers
            }
            _ => continue,
        }
        .entry(*an.bytes())
        .or_default()
        .insert(coin);
    }
    for den in Denomination::all() {
        let counted = shard.free_map.in_circulation(den);
        if counted != circulation[den.index()] {
            return Err(format!("shard {number} counts {counted} coins of {den}, not {}", circulation[den.index()]));
        }
    }
    let in_lockers: usize = lockers.values().map(BTreeSet::len).sum();
    let view = &shard.lockers;
    if (view.lockers(), view.coins_total()) != (lockers.len(), in_lockers) {
        let (found, coins) = (view.lockers(), view.coins_total());
        return Err(format!(
            "shard {number} has {coins} coins in {found} lockers, not {in_lockers} in {}",
            lockers.len()
        ));
    }
    for (key, coins) in &lockers {
        let listed: BTreeSet<CoinId> = view.coins(&Secret::new(*key)).into_iter().flatten().collect();
        if listed != *coins {
            return Err(format!("a locker of shard {number} has {} coins, not {}", listed.len(), coins.len()));
        }
    }
    market_is(shard, number, &offers, model)
}

fn market_is(
    shard: &Shard,
    number: u8,
    offers: &BTreeMap<[u8; 16], BTreeSet<CoinId>>,
    model: &Model,
) -> Result<(), String> {
    let market = &shard.market;
    if market.len() != offers.len() {
        return Err(format!("shard {number} has {} offers, not {}", market.len(), offers.len()));
    }
    for (an, coins) in offers {
        let an = Secret::new(*an);
        let listed: BTreeSet<CoinId> = market.coins(&an).into_iter().flatten().collect();
        if listed != *coins {
            return Err(format!("an offer of shard {number} has {} coins, not {}", listed.len(), coins.len()));
        }
        let address = model.offers.iter().find(|(other, _)| *other == an).map(|(_, address)| &address[..]);
        if market.address(&an).as_ref().map(|address| address.as_bytes()) != address {
            return Err(format!("an offer of shard {number} has another payout address"));
        }
    }
    // Of offers with the same price and value the first one is sold first: their order must be kept, of held ones too.
    let mut listed: BTreeMap<(u32, u64), Vec<[u8; 16]>> = BTreeMap::new();
    market.list(
        TradeCoin::Bitcoin,
        usize::MAX,
        |_| false,
        |_, offer| {
            listed.entry((offer.price, offer.value)).or_default().push(offer.identifier);
        },
    );
    let mut expected: BTreeMap<(u32, u64), Vec<[u8; 16]>> = BTreeMap::new();
    for (an, _) in model.offers.iter().filter(|(an, _)| offers.contains_key(an.bytes())) {
        let value = value_of(&model.coins_with(an));
        let identifier = crate::shard::market::public_identifier(an, crate::settings::Identifier::Hashed);
        expected.entry((price_of(an), value)).or_default().push(identifier);
    }
    if listed == expected { Ok(()) } else { Err(format!("shard {number} lists offers in another order")) }
}

/// Whether a node at rest holds nothing on behalf of requests, and no more than it may.
///
/// # Errors
/// What is left over, or too much.
pub fn at_rest(world: &World) -> Result<(), String> {
    for number in 0..world.settings.shards {
        let shard = world.shard(number);
        let cached = shard.pages.len();
        if cached > world.settings.cache_pages {
            return Err(format!("shard {number} has {cached} pages in its cache"));
        }
        let left = (shard.visits.len(), shard.locks.len(), shard.coins_in_flight, shard.coins_named);
        if !shard.has_failed() && (left != (0, 0, 0, 0) || !shard.is_idle()) {
            return Err(format!("shard {number} is left with visits, locks, coins in flight and named: {left:?}"));
        }
    }
    Ok(())
}

/// Whether control blocks or logs know every page in its place that is relied upon: rot in another would be taken for a
/// page that was never used.
///
/// # Errors
/// The page.
pub fn knows_its_pages(storage: &Memory) -> Result<(), String> {
    let survey = Survey::new(storage, &mut Vec::new()).map_err(|error| error.to_string())?;
    let mut frame = PageFrame::zeroed();
    for page in pages_with_data(storage) {
        if let PageState::Used(sequence) = survey_page(storage, page, &mut frame)
            && !survey.may_be_unnoted(page, sequence)
        {
            return Err(format!("page {} is relied upon up to {sequence} and noted nowhere", page.get()));
        }
    }
    Ok(())
}
