//! The smallest proxy that the steering can serve: it accepts, asks `steered`, connects with the
//! client's own address, and copies both ways.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tektin_loader::{
    ProxyMaps,
    abi::maps::{FlowKey, LISTENERS_V6, SteeredValue, mark, proto},
    to_addr,
};

use super::world::{Place, World};

/// What the proxy learned about a connection.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) client: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) steered: Option<SteeredValue>,
    /// The upstream's own address; the error where there is no upstream.
    pub(crate) upstream: Result<SocketAddr, String>,
}

/// Which port the upstream socket takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The client's.
    Same,
    Another,
}

/// Listeners in slot 0 of both families. Those of a proxy that is gone are closed.
pub(crate) struct Proxy {
    pub(crate) accepted: Receiver<Accepted>,
    stop: Vec<Socket>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        for listener in &self.stop {
            let _ = listener.shutdown(Shutdown::Both);
        }
    }
}

impl Proxy {
    pub(crate) fn start(world: &World, port: Port) -> Self {
        let (sender, accepted) = channel();
        let mut stop = Vec::new();
        for (slot, ip) in [(0, IpAddr::from([127, 0, 0, 1])), (LISTENERS_V6, "::1".parse().unwrap())] {
            let listener = transparent(ip.is_ipv4());
            listener.set_reuse_address(true).unwrap();
            listener.bind(&SocketAddr::new(ip, 0).into()).unwrap();
            listener.listen(64).unwrap();
            world.datapath.maps.listeners.set(slot, listener.as_raw_fd()).unwrap();
            stop.push(listener.try_clone().unwrap());
            let (sender, pins) = (sender.clone(), world.pin_dir.clone());
            world.at(Place::Node, move || serve(listener.into(), &pins, port, &sender));
        }
        world.datapath.maps.config.set_listeners(1).unwrap();
        Self { accepted, stop }
    }

    pub(crate) fn next(&self) -> Accepted {
        self.accepted.recv_timeout(Duration::from_secs(10)).expect("a connection at the proxy")
    }
}

fn transparent(v4: bool) -> Socket {
    let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.set_mark(mark::FROM_PROXY).unwrap();
    if v4 {
        socket.set_ip_transparent_v4(true).unwrap();
    } else {
        socket.set_ip_transparent_v6(true).unwrap();
        socket.set_only_v6(true).unwrap();
    }
    socket
}

fn serve(listener: TcpListener, pins: &Path, port: Port, sender: &Sender<Accepted>) {
    let maps = ProxyMaps::open(pins).unwrap();
    while let Ok((stream, client)) = listener.accept() {
        let destination = stream.local_addr().unwrap();
        let flow = FlowKey {
            src: to_addr(client.ip()),
            dst: to_addr(destination.ip()),
            sport: client.port(),
            dport: destination.port(),
            proto: proto::TCP,
            _pad: [0; 3],
        };
        let steered = maps.steered.get(&flow).unwrap();
        let upstream = connect(client, destination, port);
        let report = Accepted {
            client,
            destination,
            steered,
            upstream: upstream
                .as_ref()
                .map(|stream| stream.local_addr().unwrap())
                .map_err(|error| error.to_string()),
        };
        let _ = sender.send(report);
        if let Ok(upstream) = upstream {
            splice(stream, upstream);
        }
    }
}

fn connect(client: SocketAddr, destination: SocketAddr, port: Port) -> io::Result<TcpStream> {
    let socket = transparent(client.is_ipv4());
    socket.set_reuse_address(true)?;
    let own = if port == Port::Same { client.port() } else { 0 };
    socket.bind(&SockAddr::from(SocketAddr::new(client.ip(), own)))?;
    socket.connect_timeout(&destination.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

fn splice(client: TcpStream, server: TcpStream) {
    for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}
