//! Requests and replies over a connection: sealed, sent, received, opened and checked.

use std::fmt;

use zeroize::Zeroizing;

use crate::coin::Secret;
use crate::wire::header::{KeyName, NodeIdentity};
use crate::wire::items::SecretCoin;
use crate::wire::reply;
use crate::wire::request::Request;
use crate::wire::request::answer::Answer;
use crate::wire::seal::{self, Key, RequestRandom, Sealed};
use crate::wire::status::Status;

use super::Error;
use super::connection::{Connection, Transport};
use super::secrets::random;

/// How requests are sealed, with what that takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// Not at all: type 0.
    None,
    /// With the AN of a coin: type 1.
    Coin(SecretCoin),
    /// With the key of a locker: type 2.
    Locker(Secret),
    /// With the hash of a coin's AN: type 4.
    Coin256(SecretCoin),
    /// With the hash of two coins' ANs: type 5.
    TwoCoins256(SecretCoin, SecretCoin),
}

impl Sealing {
    /// Whether a listener learns nothing of a request: types 4 and 5. With 1 and 2 whoever knows the answer, or its
    /// challenge, reads the request.
    pub const fn hides_from_listeners(&self) -> bool {
        matches!(self, Self::Coin256(_) | Self::TwoCoins256(..))
    }

    fn name_and_key(&self) -> (KeyName, Key) {
        match self {
            Self::None => (KeyName::None, Key::None),
            Self::Coin((coin, an)) => (KeyName::Coin(*coin), Key::of_secret(*an)),
            Self::Locker(key) => {
                let prefix = *key.bytes().first_chunk().expect("5 of 16 bytes");
                (KeyName::LockerPrefix(prefix), Key::of_secret(*key))
            }
            Self::Coin256((coin, an)) => (KeyName::Coin256(*coin), Key::of_coin(an)),
            Self::TwoCoins256((first, first_an), (second, second_an)) => {
                (KeyName::TwoCoins256(*first, *second), Key::of_two_coins(first_an, second_an))
            }
        }
    }
}

/// An answer as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// How the request went.
    pub status: Status,
    /// How long the node worked on it, microseconds.
    pub micros: u32,
    /// What it says, opened. Read it with [`Reply::answer`].
    pub payload: Vec<u8>,
}

impl Reply {
    /// What the payload means as the answer to the request that was called.
    ///
    /// # Errors
    /// [`Error::Payload`] when it is not such an answer's.
    pub fn answer(&self, request: &Request<'_>) -> Result<Answer<'_>, Error> {
        Answer::decode(request, self.status, &self.payload).map_err(Error::Payload)
    }
}

/// Without the payload.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply({}, {} bytes)", self.status, self.payload.len())
    }
}

/// A conversation with one node.
pub struct Session {
    connection: Connection,
    node: NodeIdentity,
    sealing: Sealing,
}

impl Session {
    /// A conversation with the node that `connection` leads to and `node` names.
    pub const fn new(connection: Connection, node: NodeIdentity, sealing: Sealing) -> Self {
        Self { connection, node, sealing }
    }

    /// Seals otherwise from the next request on.
    pub const fn set_sealing(&mut self, sealing: Sealing) {
        self.sealing = sealing;
    }

    /// Connects, unless it is connected: [`Connection::open`].
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn open(&mut self) -> Result<(), Error> {
        self.connection.open().await
    }

    /// Asks once and waits for the answer.
    ///
    /// # Errors
    /// [`Error::Usage`] for a request that is too long; [`Error::Connect`] and all that can become of an answer.
    /// [`Error::may_have_arrived`] tells whether the node may have acted.
    pub async fn call(&mut self, request: &Request<'_>) -> Result<Reply, Error> {
        let mut replies = self.call_all(std::slice::from_ref(request)).await?;
        Ok(replies.pop().expect("one answer"))
    }

    /// Asks several times and waits for all answers, in order. Over TCP the requests are pipelined: no more of them than
    /// the node and the system between take without an answer being read, some hundred.
    ///
    /// # Errors
    /// As [`Session::call`]; the answers that did come are lost with the error.
    pub async fn call_all(&mut self, requests: &[Request<'_>]) -> Result<Vec<Reply>, Error> {
        let (key_name, key) = self.sealing.name_and_key();
        let together = match self.connection.transport() {
            Transport::Tcp => requests.len(),
            Transport::Udp => 1,
        };
        let mut replies = Vec::with_capacity(requests.len());
        for batch in requests.chunks(together.max(1)) {
            let (mut frames, mut sent) = (Vec::new(), Vec::with_capacity(batch.len()));
            for request in batch {
                sent.push(self.seal(request, (key_name, &key), &mut frames)?);
            }
            self.connection.send(frames).await?;
            for sealed in &sent {
                replies.push(self.receive(sealed, &key).await?);
            }
        }
        Ok(replies)
    }

    fn seal(&self, request: &Request<'_>, key: (KeyName, &Key), frames: &mut Vec<u8>) -> Result<Sealed, Error> {
        let mut payload = Zeroizing::new(Vec::new());
        request.encode(&mut payload);
        let random = RequestRandom { nonce: random()?, challenge: random()? };
        seal::seal(frames, self.node, request.command(), key, &payload, random).map_err(|_| {
            Error::Usage(format!("{} of {} bytes is too long for a request", request.command(), payload.len()))
        })
    }

    /// The answer to one request. Over UDP, whatever is no answer to it is passed over: it may be late, or forged.
    async fn receive(&mut self, sealed: &Sealed, key: &Key) -> Result<Reply, Error> {
        let until = self.connection.deadline();
        let mut refused = None;
        loop {
            let bytes = match self.connection.receive(sealed.header.encryption(), until).await {
                Ok(bytes) => bytes,
                Err(Error::Timeout(limit)) => return Err(refused.map_or(Error::Timeout(limit), Error::Reply)),
                Err(error) => return Err(error),
            };
            let mut payload = Vec::new();
            match reply::read(&bytes, sealed, key, &mut payload) {
                Ok(summary) => {
                    if closes(summary.status) {
                        self.connection.close();
                    }
                    return Ok(Reply { status: summary.status, micros: summary.micros, payload });
                }
                Err(error) if self.connection.transport() == Transport::Udp => refused = Some(error),
                Err(error) => {
                    self.connection.close();
                    return Err(Error::Reply(error));
                }
            }
        }
    }
}

/// Whether a node closes the stream after this status: it found the header wrong.
const fn closes(status: Status) -> bool {
    matches!(
        status,
        Status::Routing
            | Status::SplitId
            | Status::RaidaId
            | Status::ShardId
            | Status::CommandGroup
            | Status::Command
            | Status::CoinId
            | Status::EncryptionCode
    )
}
