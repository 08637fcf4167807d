//! Sockets that carry the client's address.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::{Deref, DerefMut},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tektin_abi::maps::identity;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    UpstreamError,
    places::{Place, Places},
};
use crate::{
    capture::Flow,
    pacing,
    verdict::{Admission, Permit},
};

/// How upstream sockets are made.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamSockets {
    /// `SO_MARK`; `None` leaves it at 0.
    pub mark: Option<u32>,
    pub source: SourceAddress,
    pub connect_time: Duration,
}

/// Which address a server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAddress {
    /// The client's, and its port where that is free (needs `CAP_NET_RAW` or `CAP_NET_ADMIN`).
    Client,
    /// One of this network namespace.
    Own,
}

/// What an upstream socket is bound to.
#[derive(Clone, Copy)]
enum Bind {
    AddressAndPort(SocketAddr),
    Address(IpAddr),
    Nothing,
}

/// All sockets to servers of a thread.
pub(crate) struct Upstreams {
    pub(crate) sockets: UpstreamSockets,
    pub(crate) places: Rc<Places>,
}

/// A connection to a server, which has a place among those that the thread may have.
pub(crate) struct UpstreamSocket {
    stream: TcpStream,
    place: Place,
}

impl UpstreamSocket {
    /// The place is to be kept for as long as the stream.
    pub(crate) fn into_parts(self) -> (TcpStream, Place) {
        (self.stream, self.place)
    }
}

impl Upstreams {
    /// Connects to the original destination. The permit shows that a request was allowed to go there.
    pub(crate) async fn connect<R>(
        &self,
        _permit: &Permit<R>,
        flow: &Flow,
    ) -> Result<UpstreamSocket, UpstreamError> {
        self.open(flow).await
    }

    /// The same for a connection whose requests are judged on the way.
    pub(crate) async fn connect_admitted(
        &self,
        _admission: &Admission,
        flow: &Flow,
    ) -> Result<UpstreamSocket, UpstreamError> {
        self.open(flow).await
    }

    async fn open(&self, flow: &Flow) -> Result<UpstreamSocket, UpstreamError> {
        let time = self.sockets.connect_time;
        let place = timeout(time, self.places.take(flow)).await.map_err(|_| UpstreamError::NoRoom(time))?;
        Ok(UpstreamSocket { stream: self.sockets.open(flow).await?, place })
    }
}

impl UpstreamSockets {
    async fn open(&self, flow: &Flow) -> Result<TcpStream, UpstreamError> {
        let connecting = async {
            let peer = flow.peer.0;
            let (first, second) = match self.source {
                SourceAddress::Own => (Bind::Nothing, None),
                // The host would answer to the workload past this socket.
                SourceAddress::Client if flow.steered.dst_identity == identity::HOST => (Bind::Nothing, None),
                // The client's own socket, in this namespace, has the port.
                SourceAddress::Client if flow.steered.src_identity == identity::HOST => {
                    (Bind::Address(peer.ip()), None)
                }
                SourceAddress::Client => (Bind::AddressAndPort(peer), Some(Bind::Address(peer.ip()))),
            };
            match (self.try_connect(first, flow).await, second) {
                (Err(error), Some(second)) if is_taken(&error) => self.try_connect(second, flow).await,
                (result, _) => result,
            }
        };
        match timeout(self.connect_time, connecting).await {
            Ok(result) => result.map_err(UpstreamError::Connect),
            Err(_) => Err(UpstreamError::ConnectTime(self.connect_time)),
        }
    }

    async fn try_connect(&self, bind: Bind, flow: &Flow) -> io::Result<TcpStream> {
        let to = flow.original_dst.0;
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(60)))?;
        pacing::suit_server(&socket, flow);
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        let address = match bind {
            Bind::Nothing => None,
            Bind::AddressAndPort(address) => Some(address),
            Bind::Address(ip) => Some(SocketAddr::new(ip, 0)),
        };
        if let Some(address) = address {
            match to {
                SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
                SocketAddr::V6(_) => socket.set_ip_transparent_v6(true)?,
            }
            socket.set_reuse_address(true)?;
            if address.port() == 0 {
                // The port is chosen by connect, from all that are free towards this destination.
                setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            }
            socket.bind(&address.into())?;
        }
        TcpSocket::from_std_stream(socket.into()).connect(to).await
    }
}

/// The client's port is in use: by a connection of its own that ended, or by another one.
fn is_taken(error: &io::Error) -> bool {
    [Errno::EADDRINUSE, Errno::EADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

impl Deref for UpstreamSocket {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl DerefMut for UpstreamSocket {
    fn deref_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl AsyncRead for UpstreamSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for UpstreamSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
