//! A proxy with one client and one server, both frame by frame in the test's hands.

use std::rc::Rc;

use l7_parsers::http2::frame::Setting;
use tektin_proxy::Limits;
use tokio::net::TcpListener;

use super::Peer;
use crate::harness::{Proxy, public_only};

pub(crate) struct Stage {
    pub(crate) proxy: Rc<Proxy>,
    /// Where further connections to the server come.
    pub(crate) listener: TcpListener,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
}

impl Stage {
    /// With a first request on stream 1, which is at the server and has not ended.
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default(), &[]).await
    }

    /// The same with these limits of the proxy and settings of the server.
    pub(crate) async fn with(limits: Limits, settings: &[(Setting, u32)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::with_limits(listener.local_addr().unwrap(), public_only(), limits).await;
        let mut client = Peer::client(&proxy, &[]).await;
        client.post(1, "/public/1").flush().await;
        let mut server = Peer::server(&listener, settings).await;
        assert_eq!(server.asked().await, (1, "/public/1".to_owned()));
        Self { proxy, listener, client, server }
    }
}
