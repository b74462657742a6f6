//! An archive whose disk hangs: nobody waits for it for ever, what needs no room in the log goes on, nothing is lost.

use crate::common::{Purse, locker_key, status, world_of};
use raida::sim::{Client, Held, World, WorldOptions};
use raida::wire::request::CommandKind;
use raida::wire::status::Status;

fn store(world: &mut World, purse: &mut Purse) -> Status {
    let coins = purse.take(1);
    purse.store(world, &Client::default(), &coins, locker_key(1)).0
}

#[test]
fn while_the_archive_hangs_writes_are_refused_and_nobody_waits() {
    let (mut world, mut purse) = world_of(&WorldOptions::small(1, 71).with_tiny_log(4).with_archive());
    world.held.push(Held::Archive(0));
    let refused = (0..100).find(|_| store(&mut world, &mut purse) == Status::Filesystem);
    assert!(refused.is_some_and(|before| before > 4), "{refused:?}");
    assert_eq!(status(&mut world, CommandKind::Echo, b""), Status::Success);
    assert_eq!(store(&mut world, &mut purse), Status::Filesystem);
    purse.check(&mut world);

    // The disk comes back.
    world.held.clear();
    world.settle();
    for _ in 0..10 {
        assert_eq!(store(&mut world, &mut purse), Status::AllPass);
    }
    purse.check(&mut world);
    assert!(world.shut_down());
}
