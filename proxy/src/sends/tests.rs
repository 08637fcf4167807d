use std::{
    future::Future,
    io::{Read, Write as _},
    net::{TcpListener as StdListener, TcpStream as StdStream},
    pin::pin,
    task::Context,
    time::Duration,
};

use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;

/// Runs a test on a thread that gathers.
fn gathering<T: 'static>(test: impl Future<Output = T> + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let gatherer = spawn_local(gather());
        yield_now().await;
        assert!(!gatherer.is_finished(), "no io_uring: {:?}", gatherer.await);
        test.await
    })
}

/// A socket, and the other end of its connection.
fn connection() -> (TcpStream, StdStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let peer = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    (TcpStream::from_std(socket).unwrap(), peer)
}

fn read(mut peer: &StdStream, octets: usize) -> Vec<u8> {
    let mut read = vec![0; octets];
    peer.read_exact(&mut read).unwrap();
    read
}

#[test]
fn each_connection_gets_its_own_octets_in_order() {
    gathering(async {
        // More than go in one system call.
        let connections: Vec<_> = (0..MOST + 30).map(|_| connection()).collect();
        let (sockets, peers): (Vec<_>, Vec<_>) = connections.into_iter().unzip();
        let writers: Vec<_> = (0..)
            .zip(sockets)
            .map(|(number, socket)| {
                spawn_local(async move {
                    for round in 0..3 {
                        let mut out = format!("{number:5}/{round}").into_bytes();
                        while !out.is_empty() {
                            let octets = send(&socket, &out).await.unwrap();
                            out.drain(..octets);
                            // One more than may wait writes by itself.
                            if let Ok(octets) = socket.try_write(&out) {
                                out.drain(..octets);
                            }
                        }
                    }
                    socket
                })
            })
            .collect();
        let mut kept = Vec::new();
        for writer in writers {
            kept.push(writer.await.unwrap());
        }
        for (number, peer) in peers.iter().enumerate() {
            let expected = format!("{number:5}/0{number:5}/1{number:5}/2");
            assert_eq!(String::from_utf8(read(peer, expected.len())).unwrap(), expected);
        }
    });
}

#[test]
fn what_is_given_up_does_not_leave() {
    gathering(async {
        let (socket, peer) = connection();
        let (first, second) = (b"first", b"second");
        {
            let mut given_up = pin!(send(&socket, first));
            assert!(given_up.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert_eq!(send(&socket, second).await.unwrap(), 6);
        assert_eq!(read(&peer, 6), b"second");
    });
}

#[test]
fn what_waits_leaves_when_it_is_told_to() {
    gathering(async {
        let (socket, peer) = connection();
        let mut sending = pin!(send(&socket, b"judged"));
        assert!(sending.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        leave().unwrap();
        assert_eq!(read(&peer, 6), b"judged");
        assert_eq!(sending.await.unwrap(), 6);
    });
}

#[test]
fn what_a_socket_does_not_take_is_left() {
    gathering(async {
        let (socket, peer) = connection();
        socket.writable().await.unwrap();
        while socket.try_write(&[b'x'; 1 << 16]).is_ok() {}
        assert_eq!(send(&socket, &[b'y'; 100]).await.unwrap(), 0);
        drop(peer);
    });
}

#[test]
fn a_broken_connection_is_an_error() {
    gathering(async {
        let (socket, mut peer) = connection();
        peer.write_all(b"x").unwrap();
        // What is not read makes it a reset.
        let unread = socket2::SockRef::from(&peer);
        unread.set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let error = loop {
            if let Err(error) = send(&socket, b"lost").await {
                break error;
            }
        };
        assert!(
            matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe),
            "{error}"
        );
    });
}

#[test]
fn large_writes_and_those_that_nobody_gathers_are_left_to_the_writer() {
    gathering(async {
        let (socket, _peer) = connection();
        assert_eq!(send(&socket, &[0; SMALL + 1]).await.unwrap(), 0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (socket, peer) = connection();
        assert_eq!(send(&socket, b"alone").await.unwrap(), 0);
        // The gatherer ends while a write waits.
        let gatherer = spawn_local(gather());
        yield_now().await;
        let writer = spawn_local(async move {
            let octets = send(&socket, b"alone").await.unwrap();
            (socket, octets)
        });
        gatherer.abort();
        let (socket, octets) = writer.await.unwrap();
        assert!(octets == 0 || octets == 5);
        drop(socket);
        assert_eq!((&peer).read(&mut [0; 9]).unwrap(), octets);
    });
}
