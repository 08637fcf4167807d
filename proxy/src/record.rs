//! One record a judged request, or a connection that ended without one. Written when the value that
//! stands for it is dropped, so that no way out of a request leaves none.

mod queue;

use std::{
    net::IpAddr,
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use l7_parsers::kafka;
use policy_engine::http::HttpRequest;

pub use queue::{BATCH, Batch, RecordSink, RecordSource, buffer};

use crate::{
    capture::Flow,
    grpc::Counted,
    link_proto::{Grpc, Http, Kafka, Outcome, Record},
    policy::{EndDecision, Judgement},
    worker::Worker,
};

/// A record in the making.
pub(crate) struct Recording {
    worker: Rc<Worker>,
    record: Record,
    /// For the record, should it need one.
    http: Http,
    head_read: Instant,
    /// Verdict for the totals; `None`: nothing was judged.
    tally: Option<Tally>,
    flow: Flow,
    /// Of a gRPC call.
    counted: Option<Rc<Counted>>,
    /// Its answer has begun to go to the client.
    begun: bool,
    written: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Allowed,
    Denied,
}

impl Recording {
    /// Of something that is refused unless told otherwise.
    pub(crate) fn start(worker: &Rc<Worker>, flow: &Flow) -> Self {
        let (mut record, http) = worker.records.blank();
        record.time_ns = unix_ns();
        let ends = worker.ends_shown(flow);
        record.src_identity = ends.src_identity;
        record.dst_identity = ends.dst_identity;
        record.src_endpoint = flow.steered.src_endpoint;
        record.dst_endpoint = flow.steered.dst_endpoint;
        octets(flow.peer.0.ip(), &mut record.src_address);
        octets(flow.original_dst.0.ip(), &mut record.dst_address);
        record.src_port = u32::from(flow.peer.0.port());
        record.dst_port = u32::from(flow.original_dst.0.port());
        record.set_outcome(Outcome::Refused);
        let mut recording = Self {
            worker: Rc::clone(worker),
            record,
            http,
            head_read: Instant::now(),
            tally: None,
            flow: *flow,
            counted: None,
            begun: false,
            written: false,
        };
        // Until a request is judged: what the kernel decided when it steered the connection.
        recording.decisions(&Judgement::from(&flow.steered));
        recording
    }

    pub(crate) fn request(&mut self, protocol: &str, request: &HttpRequest<'_>) {
        let mut http = self.record.http.take().unwrap_or_else(|| std::mem::take(&mut self.http));
        for (text, into) in [
            (protocol, &mut http.protocol),
            (request.method, &mut http.method),
            (request.path, &mut http.path),
            (request.host, &mut http.host),
        ] {
            shorten(text, into);
        }
        http.status = 0;
        self.record.http = Some(http);
        self.record.grpc = request.grpc().map(|_| {
            let call = request.path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
            let (service, method) = call.unwrap_or_default();
            Grpc { service: shortened(service), method: shortened(method), ..Grpc::default() }
        });
    }

    /// Its record is written when the call ends, and says what it carried until then.
    pub(crate) fn counts(&mut self, call: Rc<Counted>) {
        self.counted = Some(call);
    }

    /// Where no request could be made of what came: only its protocol is known.
    pub(crate) fn protocol(&mut self, protocol: &str) {
        self.record.http.get_or_insert_default().protocol = protocol.to_owned();
    }

    pub(crate) fn judged(&mut self, judgement: &Judgement) {
        self.decisions(judgement);
        self.record.reason = crate::verdict::logged(&judgement.header_actions);
        let (outcome, tally) = if judgement.denies() {
            self.record.reason = judgement.reason().to_owned();
            (Outcome::Denied, Tally::Denied)
        } else {
            (Outcome::Allowed, Tally::Allowed)
        };
        self.record.set_outcome(outcome);
        self.tally = Some(tally);
    }

    /// A Kafka request that has ended, and what the two ends say of it where they were asked.
    pub(crate) fn kafka(&mut self, ended: kafka::Record, judgement: Option<&Judgement>) {
        match judgement {
            Some(judgement) => self.judged(judgement),
            None => {
                self.record.set_outcome(Outcome::Allowed);
                self.tally = Some(Tally::Allowed);
            }
        }
        match ended.outcome {
            kafka::Outcome::Refused(closing) => self.refused(closing),
            kafka::Outcome::Unjudged => self.refused("not judged, as topics were asked for by id"),
            kafka::Outcome::Partly if judgement.is_some_and(Judgement::denies) => {
                self.because("what is denied was taken out, the rest went on");
            }
            kafka::Outcome::Allowed | kafka::Outcome::Denied | kafka::Outcome::Partly => {}
        }
        if let Some(cut) = ended.cut {
            let before = if self.record.reason.is_empty() { "" } else { "; " };
            self.record.reason.push_str(&format!("{before}ended before an answer: {cut}"));
        }
        let latency = u64::try_from(ended.latency.as_nanos()).unwrap_or(u64::MAX);
        self.record.latency_ns = latency;
        self.record.time_ns = self.record.time_ns.saturating_sub(latency);
        self.record.kafka = Some(Kafka {
            api_key: ended.api_key.into(),
            api_name: ended.api_name.to_owned(),
            api_version: ended.api_version.into(),
            correlation_id: ended.correlation_id,
            client_id: shortened(&ended.client_id),
            topics: ended.topics,
            topics_in_all: u32::try_from(ended.topics_in_all).unwrap_or(u32::MAX),
            group: shortened(&ended.group.unwrap_or_default()),
            transactional_id: shortened(&ended.transactional_id.unwrap_or_default()),
            error_code: ended.error_code.into(),
        });
    }

    fn decisions(&mut self, judgement: &Judgement) {
        let EndDecision { action, rule, enforced, .. } = judgement.egress;
        self.record.set_egress_action(action);
        (self.record.egress_rule, self.record.egress_enforced) = (rule, enforced);
        let EndDecision { action, rule, enforced, .. } = judgement.ingress;
        self.record.set_ingress_action(action);
        (self.record.ingress_rule, self.record.ingress_enforced) = (rule, enforced);
        self.record.revision = judgement.revision;
    }

    /// Adds words to a verdict.
    pub(crate) fn because(&mut self, reason: &str) {
        self.record.reason = reason.to_owned();
    }

    pub(crate) fn refused(&mut self, reason: impl ToString) {
        self.record.set_outcome(Outcome::Refused);
        self.record.reason = reason.to_string();
    }

    pub(crate) fn upstream_failed(&mut self, reason: impl ToString) {
        self.record.set_outcome(Outcome::UpstreamFailed);
        self.record.reason = reason.to_string();
    }

    /// The status that goes to the client.
    pub(crate) fn status(&mut self, status: http::StatusCode) {
        if let Some(http) = &mut self.record.http {
            http.status = u32::from(status.as_u16());
        }
    }

    /// The upstream's response head has come.
    pub(crate) fn answered(&mut self, status: u16) {
        self.record.latency_ns =
            u64::try_from(self.head_read.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        if let Some(http) = &mut self.record.http {
            http.status = u32::from(status);
        }
    }

    /// The `grpc-status` of an answer of the proxy's own.
    pub(crate) fn grpc_status(&mut self, value: &http::HeaderValue) {
        if let Some(counted) = &self.counted {
            counted.says(value.as_bytes());
        } else if let Some(grpc) = &mut self.record.grpc {
            grpc.status = value.to_str().ok().and_then(|text| text.parse().ok());
        }
    }

    /// The answer begins: with that the record is complete, but for a call's.
    pub(crate) fn begins(&mut self) {
        self.begun = true;
        if self.counted.is_none() {
            self.write();
        }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Writes it now. Nothing that comes later is in it.
    pub(crate) fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
        }
        if let (Some(grpc), Some(counted)) = (&mut self.record.grpc, &self.counted) {
            counted.fill(grpc);
        }
        let unanswered = self.record.http.as_ref().is_some_and(|http| http.status == 0);
        if unanswered && self.tally == Some(Tally::Allowed) && self.record.reason.is_empty() {
            self.record.reason = "ended before an answer".to_owned();
        }
        let counters = &self.worker.counters;
        match self.record.outcome() {
            Outcome::Allowed => &counters.requests_allowed,
            Outcome::Denied => &counters.requests_denied,
            Outcome::Refused => &counters.requests_refused,
            Outcome::UpstreamFailed => &counters.upstream_failures,
        }
        .fetch_add(1, Relaxed);
        if let Some(tally) = self.tally {
            self.worker.tallies.count(&self.flow, tally);
        }
        self.worker.records.push(std::mem::take(&mut self.record), std::mem::take(&mut self.http));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.write();
    }
}

/// A head may be far longer than anybody wants to read, and thousands of records wait at times.
const TEXT: usize = 2048;

fn shortened(text: &str) -> String {
    let mut short = String::new();
    shorten(text, &mut short);
    short
}

/// Only the beginning of a text that is too long for a record.
fn shorten(text: &str, into: &mut String) {
    into.clear();
    let end = match text.len() {
        0..=TEXT => None,
        _ => text.char_indices().nth(TEXT),
    };
    match end {
        None => into.push_str(text),
        Some((end, _)) => into.extend([&text[..end], "…"]),
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn octets(ip: IpAddr, into: &mut Vec<u8>) {
    into.clear();
    match ip {
        IpAddr::V4(v4) => into.extend(v4.octets()),
        IpAddr::V6(v6) => into.extend(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut() {
        for (text, kept) in
            [("x".repeat(TEXT), TEXT), ("x".repeat(TEXT + 1), TEXT + 1), ("ä".repeat(5000), TEXT + 1)]
        {
            let mut into = String::from("before");
            shorten(&text, &mut into);
            assert_eq!(into.chars().count(), kept);
        }
    }
}
