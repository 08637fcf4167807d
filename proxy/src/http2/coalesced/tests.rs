use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    runtime::{Builder, LocalOptions},
    time::timeout,
};

use futures::FutureExt;

use super::*;

/// On a thread like a worker's; `None` of its turns end if not `turns`.
fn on_a_thread(turns: bool, test: impl AsyncFnOnce(Coalesced, TcpStream) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let mut builder = Builder::new_current_thread();
        if turns {
            turns_end();
            builder.on_thread_park(end_turn);
        }
        let runtime = builder.enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
            let (server, _) = listener.accept().await.unwrap();
            timeout(Duration::from_secs(20), test(Coalesced::new(server), client)).await.unwrap();
        });
    });
    thread.join().unwrap();
}

fn has_nothing(client: &TcpStream) -> bool {
    client.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn what_is_written_in_one_turn_goes_at_its_end() {
    on_a_thread(true, async |mut socket, mut client| {
        client.readable().now_or_never();
        for octet in 0..10_u8 {
            socket.write_all(&[octet; 100]).await.unwrap();
            socket.flush().await.unwrap();
        }
        assert!(has_nothing(&client), "it waits");
        let mut read = [0; 1000];
        client.read_exact(&mut read).await.unwrap();
        assert!(read.iter().enumerate().all(|(at, octet)| usize::from(*octet) == at / 100));
    });
}

#[test]
fn an_answer_to_a_ping_goes_along_or_after_a_moment() {
    on_a_thread(true, async |mut socket, mut client| {
        const PONG: &[u8] = &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
        socket.write_all(PONG).await.unwrap();
        socket.flush().await.unwrap();
        end_turn();
        assert_eq!(socket.writer.waiting.borrow().len(), 17, "it can wait");
        let mut read = [0; 18];
        client.read_exact(&mut read[..17]).await.unwrap();
        assert_eq!(&read[..17], PONG, "but not for ever");
        socket.write_all(PONG).await.unwrap();
        socket.flush().await.unwrap();
        end_turn();
        socket.write_all(b"x").await.unwrap();
        socket.flush().await.unwrap();
        end_turn();
        assert!(socket.writer.waiting.borrow().is_empty(), "what cannot wait takes it along");
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [PONG, b"x"].concat()[..]);
    });
}

#[test]
fn nothing_waits_where_no_turn_ends() {
    on_a_thread(false, async |mut socket, client| {
        socket.write_all(b"x").await.unwrap();
        socket.flush().await.unwrap();
        // The kernel delivers on the loopback before it returns.
        let mut read = [0; 2];
        let got = loop {
            match client.try_read(&mut read) {
                Ok(octets) => break octets,
                Err(_) => client.readable().await.unwrap(),
            }
        };
        assert_eq!((got, read[0]), (1, b'x'));
        assert!(socket.writer.waiting.borrow().is_empty());
    });
}

#[test]
fn a_thread_without_rest_writes_all_the_same() {
    on_a_thread(true, async |mut socket, _client| {
        for _ in 0..DEFERRALS {
            socket.write_all(b"x").await.unwrap();
            socket.flush().await.unwrap();
        }
        assert_eq!(socket.writer.waiting.borrow().len(), DEFERRALS);
        socket.write_all(b"x").await.unwrap();
        socket.flush().await.unwrap();
        assert!(socket.writer.waiting.borrow().is_empty());
    });
}

#[test]
fn a_slow_reader_gets_everything_in_order_and_bounds_what_waits() {
    on_a_thread(true, async |mut socket, mut client| {
        const OCTETS: usize = 8 << 20;
        let writing = tokio::task::spawn_local(async move {
            let mut sent = 0;
            // Small pieces and large ones.
            while sent < OCTETS {
                let size = if sent % 3 == 0 { 97 } else { 20_000 }.min(OCTETS - sent);
                let piece: Vec<u8> = (sent..sent + size).map(|at| (at % 251) as u8).collect();
                socket.write_all(&piece).await.unwrap();
                socket.flush().await.unwrap();
                assert!(socket.writer.waiting.borrow().len() <= MOST);
                sent += size;
            }
            socket.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert_eq!(got.len(), OCTETS);
        assert!(got.iter().enumerate().all(|(at, octet)| usize::from(*octet) == at % 251));
    });
}

#[test]
fn a_reader_that_has_stopped_is_noticed() {
    on_a_thread(true, async |mut socket, _client| {
        let fill = async {
            loop {
                socket.write_all(&[0; 1000]).await.unwrap();
                socket.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(Duration::from_millis(500), fill).await.is_err());
        assert!(socket.is_blocked());
    });
}

#[test]
fn a_connection_that_ends_says_its_last_words() {
    on_a_thread(true, async |mut socket, mut client| {
        socket.write_all(b"goodbye").await.unwrap();
        drop(socket);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"goodbye");
        assert!(TURN.with(|turn| turn.writers.borrow().is_empty()));
    });
}
