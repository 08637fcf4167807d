//! The same with many streams.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::Builder,
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use tektin_proxy::Limits;

use super::*;
use crate::http2::Body;

#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        spawn_local(async move {
            future.await;
        });
    }
}

/// A body that follows from the seed, in pieces that come at any time.
fn flowing(seed: u64, cut: bool) -> Body {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    spawn_local(async move {
        let mut dice = Dice::new(seed ^ 0xabc);
        let content = body(seed, Dice::new(seed ^ 0xf0f0).length());
        let mut rest = &content[..];
        while !rest.is_empty() {
            if cut && dice.one_in(20) {
                return;
            }
            let (piece, behind) = rest.split_at(rest.len().min(1 + dice.below(40_000) as usize));
            if sender.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).await.is_err() {
                return;
            }
            rest = behind;
            dice.pause().await;
        }
    });
    StreamBody::new(ReceiverStream::new(receiver)).boxed()
}

/// `None`: it broke off, what came was right.
async fn heard(mut incoming: Incoming, seed: u64, dice: &mut Dice, most: usize) -> Option<()> {
    let expected = body(seed, Dice::new(seed ^ 0xf0f0).length());
    let mut at = 0;
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else { return None };
        let Ok(data) = frame.into_data() else { continue };
        assert!(expected[at..].starts_with(&data), "another's octets in {seed} at {at}");
        at += data.len();
        if at > most {
            return None;
        }
        dice.pause().await;
    }
    assert_eq!(at, expected.len(), "of {seed}");
    Some(())
}

async fn serve(stream: TcpStream, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut builder = http2::Builder::new(Local);
    builder.timer(TokioTimer::new()).max_concurrent_streams(1 + dice.below(20) as u32);
    if dice.one_in(2) {
        // Smaller ones than were in force when octets came, hyper does not widen again.
        builder.initial_stream_window_size(65_535 + dice.below(3000) as u32);
    }
    let service = service_fn(move |request: Request<Incoming>| async move {
        let seed: u64 = request.uri().path()[8..].parse().unwrap();
        let mut dice = Dice::new(seed ^ 7);
        let early = dice.one_in(5);
        let answer = flowing(seed | ANSWER, false);
        if early {
            spawn_local(async move { heard(request.into_body(), seed, &mut dice, usize::MAX).await });
        } else if heard(request.into_body(), seed, &mut dice, usize::MAX).await.is_none() {
            return Err("broken off");
        }
        Ok(Response::new(answer))
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    if dice.one_in(3) {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(Duration::from_millis(dice.below(300))) => {}
        }
        connection.as_mut().graceful_shutdown();
    }
    let _ = connection.await;
}

async fn ask(address: SocketAddr, seed: u64) -> (u64, u64) {
    let mut dice = Dice::new(seed);
    let stream = TcpStream::connect(address).await.unwrap();
    if dice.one_in(4) {
        let _ = SockRef::from(&stream).set_recv_buffer_size(3000);
        let _ = SockRef::from(&stream).set_send_buffer_size(3000);
    }
    let mut builder = Builder::new(TokioExecutor::new());
    if dice.one_in(2) {
        builder.initial_stream_window_size(600 + dice.below(3000) as u32);
    }
    if dice.one_in(3) {
        builder.initial_connection_window_size(70_000);
    }
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let driver = spawn_local(connection);
    let asks: Vec<_> = (0..1 + dice.below(30))
        .map(|number| {
            let mut sender = sender.clone();
            let seed = seed * 100 + number;
            let mut dice = Dice::new(seed ^ 9);
            spawn_local(async move {
                dice.pause().await;
                let cut = dice.one_in(8);
                let most = if dice.one_in(8) { dice.below(50_000) as usize } else { usize::MAX };
                if sender.ready().await.is_err() {
                    return None;
                }
                let request = Request::post(format!("http://web/public/{seed}"));
                let request = request.body(flowing(seed, false)).unwrap();
                let answer = sender.send_request(request);
                let answer = if cut {
                    match tokio::time::timeout(Duration::from_millis(dice.below(20)), answer).await {
                        Ok(answer) => answer,
                        Err(_) => return None,
                    }
                } else {
                    answer.await
                };
                match answer {
                    Ok(answer) if answer.status() == 200 => {
                        heard(answer.into_body(), seed | ANSWER, &mut dice, most).await
                    }
                    Ok(_) | Err(_) => None,
                }
            })
        })
        .collect();
    let (mut whole, all) = (0, asks.len() as u64);
    for ask in asks {
        whole += u64::from(ask.await.unwrap().is_some());
    }
    drop(sender);
    driver.abort();
    (whole, all)
}

#[test]
fn each_stream_gets_its_own() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // So little that they wait for each other.
        let limits = Limits { buffered_per_source: 300 << 10, ..Limits::default() };
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        spawn_local(async move {
            for seed in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                spawn_local(serve(stream, seed));
            }
        });
        let clients: Vec<_> = (1..9).map(|client| spawn_local(ask(proxy.address, client))).collect();
        let (mut whole, mut all) = (0, 0);
        for client in clients {
            let (more, of) = client.await.unwrap();
            (whole, all) = (whole + more, all + of);
        }
        assert!(whole > all / 4, "{whole} of {all}");
    });
}
