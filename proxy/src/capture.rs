//! From an accepted socket to a connection whose identities are known.

use std::{fmt, io, net::IpAddr, net::SocketAddr};

use tektin_abi::maps::{Addr, FlowKey, IpcacheValue, SteeredValue, identity, proto, v4_mapped};
use tokio::net::TcpStream;

/// Where the client believes to be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDst(pub SocketAddr);

/// The client's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// A connection that reached a listener; nothing is known of it yet.
pub struct Accepted {
    stream: TcpStream,
    peer: PeerAddr,
    original_dst: OriginalDst,
}

/// A connection that the kernel steered, with what it decided then.
pub struct Captured {
    pub stream: TcpStream,
    pub flow: Flow,
}

/// The two ends of a captured connection.
#[derive(Clone, Copy)]
pub struct Flow {
    pub peer: PeerAddr,
    pub original_dst: OriginalDst,
    /// Identities and endpoints as the kernel saw them. Never guessed from addresses.
    pub steered: SteeredValue,
}

/// Why an accepted connection cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("the kernel did not steer this connection")]
    NotSteered,
    #[error("cannot read the steered map: {0}")]
    Table(#[source] io::Error),
}

/// What the kernel wrote when it steered a connection.
pub trait SteeringTable {
    /// # Errors
    /// Where the table cannot be read; `None`: it has no such entry.
    fn steered(&self, flow: &FlowKey) -> io::Result<Option<SteeredValue>>;
}

/// Whose an address is now.
pub trait AddressTable {
    /// Of the longest prefix; `None`: nobody's.
    ///
    /// # Errors
    /// Where the table cannot be read.
    fn owner(&self, address: &Addr) -> io::Result<Option<IpcacheValue>>;
}

impl Flow {
    /// The address of the end that is not on this node. `None`: both are, or it is the node itself.
    #[must_use]
    pub fn far_end(&self) -> Option<Addr> {
        let far = |endpoint, end| endpoint == 0 && end != identity::HOST;
        let steered = &self.steered;
        if far(steered.src_endpoint, steered.src_identity) {
            return Some(to_addr(self.peer.0.ip()));
        }
        far(steered.dst_endpoint, steered.dst_identity).then(|| to_addr(self.original_dst.0.ip()))
    }
}

impl Accepted {
    /// From a socket that a transparent listener accepted: its local address is the destination.
    ///
    /// # Errors
    /// Where the socket has no addresses any more.
    pub fn from_listener(stream: TcpStream) -> io::Result<Self> {
        let (peer, original_dst) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self::adopt(stream, PeerAddr(peer), OriginalDst(original_dst)))
    }

    /// From a connected socket whose addresses somebody else vouches for.
    #[must_use]
    pub fn adopt(stream: TcpStream, peer: PeerAddr, original_dst: OriginalDst) -> Self {
        Self { stream, peer, original_dst }
    }

    /// Looks up why the kernel steered the connection.
    ///
    /// # Errors
    /// Without an entry nobody knows the identities: the connection must be reset.
    pub fn capture(self, table: &dyn SteeringTable) -> Result<Captured, (TcpStream, CaptureError)> {
        let key = FlowKey {
            src: to_addr(self.peer.0.ip()),
            dst: to_addr(self.original_dst.0.ip()),
            sport: self.peer.0.port(),
            dport: self.original_dst.0.port(),
            proto: proto::TCP,
            _pad: [0; 3],
        };
        match table.steered(&key) {
            Ok(Some(steered)) => Ok(Captured {
                stream: self.stream,
                flow: Flow { peer: self.peer, original_dst: self.original_dst, steered },
            }),
            Ok(None) => Err((self.stream, CaptureError::NotSteered)),
            Err(error) => Err((self.stream, CaptureError::Table(error))),
        }
    }
}

fn to_addr(ip: IpAddr) -> Addr {
    match ip {
        IpAddr::V4(v4) => v4_mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}({}) -> {}({})",
            self.peer.0, self.steered.src_identity, self.original_dst.0, self.steered.dst_identity
        )
    }
}
