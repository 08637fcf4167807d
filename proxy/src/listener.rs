//! Listening sockets that the kernel programs assign connections to.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tektin_abi::maps::mark;

use crate::pacing;

/// Connections that wait for a worker. The kernel's `somaxconn` bounds it too.
const BACKLOG: i32 = 4096;

/// The two sockets of one worker thread.
pub(crate) struct ListenerPair {
    pub(crate) v4: TcpListener,
    pub(crate) v6: TcpListener,
}

impl ListenerPair {
    /// Bound to loopback: nobody reaches them but by steering. No SO_REUSEPORT, which would let
    /// another process join in; a new proxy takes over through the map.
    pub(crate) fn open() -> io::Result<Self> {
        let v4 = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let v6 = listen(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))?;
        Ok(Self { v4, v6 })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    // Accepted sockets inherit it: packets of a proxied flow pass only from sockets with the mark.
    socket.set_mark(mark::FROM_PROXY)?;
    // As are these.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
    pacing::accept_unpaced(&socket);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
