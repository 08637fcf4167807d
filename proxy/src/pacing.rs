//! Between the proxy and a workload of this node there is a pair of devices without a queue. A congestion
//! control that paces (BBR) arms a timer there for every 64 KB and lets the processor idle between them, so
//! these connections have the kernel's plain one. What leaves the node has what the system is set to.

use std::sync::OnceLock;

use socket2::{SockRef, Socket};

use crate::capture::Flow;

/// Part of every kernel, and allowed to everybody.
const PLAIN: &[u8] = b"reno";

/// What the system is set to, where that is something else.
static SYSTEMS_OWN: OnceLock<Vec<u8>> = OnceLock::new();

/// Connections that this one accepts are not paced, from their first octet on.
pub(crate) fn accept_unpaced(listener: &Socket) {
    // Where it cannot be read or set all stay as they are.
    let Ok(own) = listener.tcp_congestion() else { return };
    let name = own.split(|octet| *octet == 0).next().unwrap_or_default();
    if name != PLAIN && listener.set_tcp_congestion(PLAIN).is_ok() {
        let _ = SYSTEMS_OWN.set(name.to_vec());
    }
}

/// Gives an accepted connection of a client elsewhere what the system is set to.
pub(crate) fn suit_client(client: SockRef<'_>, flow: &Flow) {
    if let Some(own) = SYSTEMS_OWN.get()
        && flow.steered.src_endpoint == 0
    {
        let _ = client.set_tcp_congestion(own);
    }
}

/// For a socket that is not connected yet.
pub(crate) fn suit_server(socket: &Socket, flow: &Flow) {
    if SYSTEMS_OWN.get().is_some() && flow.steered.dst_endpoint != 0 {
        let _ = socket.set_tcp_congestion(PLAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    };

    use socket2::{Domain, Type};

    use super::*;

    fn name(socket: &SockRef<'_>) -> String {
        String::from_utf8(socket.tcp_congestion().unwrap()).unwrap().trim_matches('\0').to_owned()
    }

    #[test]
    fn accepted_connections_are_as_their_listener() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let before = name(&SockRef::from(&socket));
        accept_unpaced(&socket);
        assert_eq!(name(&SockRef::from(&socket)), "reno");
        let own = SYSTEMS_OWN.get().map(|own| String::from_utf8(own.clone()).unwrap());
        assert_eq!(own.unwrap_or_else(|| "reno".to_owned()), before);
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(1).unwrap();
        let listener = TcpListener::from(socket);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        assert_eq!(name(&SockRef::from(&accepted)), "reno");
        // The other way round it is the system's again, and goes on.
        SockRef::from(&accepted).set_tcp_congestion(before.as_bytes()).unwrap();
        assert_eq!(name(&SockRef::from(&accepted)), before);
        client.write_all(b"ask").unwrap();
        accepted.read_exact(&mut [0; 3]).unwrap();
    }
}
