//! The sockets of a node: for each reactor a listening one and one for datagrams, all on one port.
//!
//! SO_REUSEPORT lets the kernel spread connections and datagrams over the reactors by flow. It would also let a second
//! node of the same user share the port unnoticed, so the port is first taken without it, which fails if anybody is there.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// How often a taken port is tried again, and after how long: a node that just ended holds it for about 30 ms.
const ATTEMPTS: u32 = 40;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(25);

/// The two sockets of a reactor.
#[derive(Debug)]
pub struct Sockets {
    /// Listens for connections.
    pub listener: TcpListener,
    /// Receives and sends datagrams.
    pub datagrams: UdpSocket,
}

/// Binds the sockets of `reactors` reactors to an address, whose port 0 means one that is free for both transports.
/// Returns the address with its port. Tries a while when the port is taken.
pub fn bind_all(address: SocketAddr, reactors: usize, buffer_bytes: usize) -> io::Result<(SocketAddr, Vec<Sockets>)> {
    let mut attempt = 1;
    loop {
        match try_bind_all(address, reactors, buffer_bytes) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
        thread::sleep(BETWEEN_ATTEMPTS);
    }
}

fn try_bind_all(
    mut address: SocketAddr,
    reactors: usize,
    buffer_bytes: usize,
) -> io::Result<(SocketAddr, Vec<Sockets>)> {
    let alone = listening_socket(address, false)?;
    address.set_port(TcpListener::from(alone).local_addr()?.port());
    drop(datagram_socket(address, false)?);
    let mut sockets = Vec::with_capacity(reactors);
    for _ in 0..reactors {
        let listener = TcpListener::from(listening_socket(address, true)?);
        let datagrams = datagram_socket(address, true)?;
        // The kernel gives what its limits allow.
        setsockopt(&datagrams, sockopt::RcvBuf, &buffer_bytes)?;
        setsockopt(&datagrams, sockopt::SndBuf, &buffer_bytes)?;
        sockets.push(Sockets { listener, datagrams: UdpSocket::from(datagrams) });
    }
    // Only now, so that no connection is spread before all are there.
    sockets.iter().try_for_each(|sockets| listen(&sockets.listener, Backlog::new(4096)?))?;
    Ok((address, sockets))
}

fn listening_socket(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = new_socket(address, SockType::Stream)?;
    // Connections of a former node that the kernel still remembers do not hold the port.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &shared)?;
    // Accepted sockets inherit it: what a turn has to say leaves at once.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    if !shared {
        // REUSEADDR lets two sockets share a port until one of them listens.
        listen(&socket, Backlog::new(1)?)?;
    }
    Ok(socket)
}

fn datagram_socket(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let socket = new_socket(address, SockType::Datagram)?;
    setsockopt(&socket, sockopt::ReusePort, &shared)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn new_socket(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` serves IPv4 too.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sockets_share_the_port_the_kernel_chose() {
        for any in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let (address, sockets) = bind_all(any.parse().unwrap(), 3, 1 << 20).unwrap();
            assert_ne!(address.port(), 0);
            for sockets in &sockets {
                assert_eq!(sockets.listener.local_addr().unwrap(), address);
                assert_eq!(sockets.datagrams.local_addr().unwrap(), address);
            }
        }
    }

    #[test]
    fn a_second_node_on_the_port_is_refused() {
        let (address, _sockets) = bind_all("127.0.0.1:0".parse().unwrap(), 2, 1 << 20).unwrap();
        let refused = try_bind_all(address, 1, 1 << 20).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
