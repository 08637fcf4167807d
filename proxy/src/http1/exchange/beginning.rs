//! The first octets of a request on their way to a server, by the verdict of that moment.

use super::{judging::Came, own::Own};
use crate::{
    http1::{
        Session,
        client::consume,
        relay::Relay,
        request::{Asked, Manner},
    },
    record::Recording,
    upstream::{Begun, Http1Upstream, Kept, UpstreamError},
    verdict::Permit,
};

/// What is about to be sent, and by which verdict.
pub(super) struct Beginning<'a> {
    pub(super) came: Came<'a>,
    /// Octets of the head, with which what is to be written begins.
    pub(super) head: usize,
    pub(super) manner: Manner,
    pub(super) asked: Option<Asked>,
    pub(super) permit: Permit<()>,
    /// What has been sent, where that is all of a request that may be sent again: on a connection that waited
    /// for it, which its server may have been ending at that moment.
    pub(super) whole: Option<Vec<u8>>,
}

impl Beginning<'_> {
    /// On the kept upstream, or on one that its workload has to spare, or on a new one.
    pub(super) async fn send(
        &mut self,
        up: &mut Relay<'_>,
        kept: &Kept,
        session: &Session,
        recording: &mut Recording,
    ) -> Result<Http1Upstream, Own> {
        loop {
            let mut usable = kept.take();
            if usable.is_none() && self.manner.is_repeatable {
                usable = kept.take_spare(session.worker.limits.spare_time);
            }
            if let Some(upstream) = &mut usable
                && upstream.is_closed().await
            {
                usable = None;
            }
            let was_kept = usable.is_some();
            let mut upstream = match usable {
                Some(upstream) => upstream,
                None => {
                    self.connect(session).await.map_err(|error| self.failed(&error, session, recording))?
                }
            };
            loop {
                match upstream.begin(&self.permit, &up.output, &session.worker).await {
                    Ok(Begun::Sent(octets)) => {
                        self.sent(&mut up.output, octets, was_kept);
                        return Ok(upstream);
                    }
                    Ok(Begun::Overtaken) => {
                        if let Err(own) = self.judge_again(up, session, recording) {
                            // It has had nothing, so that the next request may have it.
                            kept.put(upstream);
                            return Err(own);
                        }
                    }
                    // Closed before the first octet: another one may carry the request.
                    Err(_) if was_kept => break,
                    Err(error) => return Err(self.failed(&error, session, recording)),
                }
            }
        }
    }

    fn sent(&mut self, output: &mut Vec<u8>, octets: usize, was_kept: bool) {
        if was_kept && self.manner.is_repeatable && octets == output.len() {
            self.whole = Some(std::mem::take(output));
        } else {
            consume(output, octets);
        }
    }

    async fn connect(&self, session: &Session) -> Result<Http1Upstream, UpstreamError> {
        Http1Upstream::connect(&self.permit, &session.flow, &session.worker.upstreams).await
    }

    fn failed(&self, error: &UpstreamError, session: &Session, recording: &mut Recording) -> Own {
        Own::failed(error, &self.manner, session, recording)
    }

    /// What is to be written begins with the head as the policies in force now want it.
    fn judge_again(
        &mut self,
        up: &mut Relay<'_>,
        session: &Session,
        recording: &mut Recording,
    ) -> Result<(), Own> {
        let (outbound, permit) = self.came.judge_again(session, recording)?.open();
        let head = outbound.head.len();
        up.output.splice(..self.head, outbound.head);
        (self.head, self.manner, self.asked) = (head, outbound.manner, outbound.asked);
        self.permit = permit;
        Ok(())
    }
}
