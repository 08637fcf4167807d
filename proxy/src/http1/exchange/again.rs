//! A request that found its server gone, once more on a connection of its own (RFC 9112 §9.3.1).

use crate::{
    http1::Session,
    upstream::{Begun, Http1Upstream, UpstreamError},
    verdict::Permit,
};

/// All of a request, and by which verdict it was sent.
pub(super) struct Again {
    pub(super) octets: Vec<u8>,
    pub(super) permit: Permit<()>,
}

impl Again {
    /// `failed`: what became of it the first time.
    pub(super) async fn send(
        self,
        failed: UpstreamError,
        session: &Session,
    ) -> Result<Http1Upstream, UpstreamError> {
        let worker = &session.worker;
        let mut fresh = Http1Upstream::connect(&self.permit, &session.flow, &worker.upstreams).await?;
        match fresh.begin(&self.permit, &self.octets, worker).await? {
            Begun::Sent(octets) if octets == self.octets.len() => Ok(fresh),
            // The server takes a part of it only, or other policies are in force: it has failed, as without this.
            Begun::Sent(_) | Begun::Overtaken => Err(failed),
        }
    }
}
