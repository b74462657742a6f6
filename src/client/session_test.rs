//! Sessions as the load generator uses them: pipelined, and again after a failure.

use std::time::Duration;

use super::Error;
use super::connection::{Connection, Transport};
use super::fake_node::{FakeNode, Fault, NODE};
use super::session::{Sealing, Session};
use crate::coin::Secret;
use crate::wire::items::{RawCoin, bytes_of};
use crate::wire::request::answer::Answer;
use crate::wire::request::{CommandKind, Request};
use crate::wire::status::Status;

const COIN: RawCoin = RawCoin { den: 0, sn: 1 };
const KEY: Secret = Secret::new(*b"locker key..\xFF\xFF\xFF\xFF");

fn node() -> FakeNode {
    FakeNode::start((0..40_000).map(|sn| (RawCoin { den: 0, sn }, KEY)))
}

fn session(node: &FakeNode, transport: Transport, timeout: Duration) -> Session {
    Session::new(Connection::new(node.address, transport, timeout), NODE, Sealing::Coin256((COIN, KEY)))
}

#[test]
fn pipelined_answers_come_in_order() {
    let node = node();
    for transport in [Transport::Tcp, Transport::Udp] {
        tokio_uring::start(async {
            let mut session = session(&node, transport, Duration::from_secs(10));
            let requests = [Request::Echo, Request::Version, Request::CountCoins].repeat(30);
            let replies = session.call_all(&requests).await.unwrap();
            assert_eq!(replies.len(), requests.len());
            for (request, reply) in requests.iter().zip(&replies) {
                assert_eq!(reply.status, Status::Success);
                assert!(match reply.answer(request).unwrap() {
                    Answer::Nothing => *request == Request::Echo,
                    Answer::Version(version) => *request == Request::Version && version == "fake 1",
                    Answer::Counts(counts) => *request == Request::CountCoins && counts.len() == 15,
                    _ => false,
                });
            }
            assert!(session.call_all(&[]).await.unwrap().is_empty());
        });
    }
}

#[test]
fn an_answer_longer_than_any_datagram_comes_over_tcp() {
    let node = node();
    tokio_uring::start(async {
        let mut session = session(&node, Transport::Tcp, Duration::from_secs(10));
        let request = Request::Peek { key: KEY };
        let reply = session.call(&request).await.unwrap();
        assert_eq!(reply.payload, bytes_of((0..40_000).map(|sn| RawCoin { den: 0, sn })));
        assert_eq!(format!("{reply:?}"), "Reply(241 all passed, 200000 bytes)");
    });
}

#[test]
fn after_a_timeout_the_late_answer_is_not_taken_for_the_next() {
    let node = node();
    for transport in [Transport::Tcp, Transport::Udp] {
        tokio_uring::start(async {
            let mut session = session(&node, transport, Duration::from_millis(50));
            node.state().fault = Some((CommandKind::Echo, Fault::AnswerLost));
            assert!(matches!(session.call(&Request::Echo).await, Err(Error::Timeout(_))));
            assert_eq!(session.call(&Request::Version).await.unwrap().payload, b"fake 1");
        });
    }
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let node = node();
    tokio_uring::start(async {
        let mut session = session(&node, Transport::Tcp, Duration::from_secs(10));
        let coins = bytes_of((0..20_000).map(|sn| RawCoin { den: 0, sn }));
        let coins = crate::wire::items::Coins::new(&coins).unwrap();
        let error = session.call(&Request::DetectSum { coins, sum: KEY }).await.unwrap_err();
        assert!(matches!(error, Error::Usage(_)) && !error.may_have_arrived());
        assert_eq!(node.state().requests, 0);
    });
}
