//! One record a judged request, or a connection that ended without one. Written when the value that
//! stands for it is dropped, so that no way out of a request leaves none.

use std::{
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use l7_parsers::kafka;
use policy_engine::http::HttpRequest;

use crate::{
    capture::Flow,
    link_proto::{Grpc, Http, Kafka, Outcome, Record},
    policy::{EndDecision, Judgement},
    worker::Worker,
};

/// A record in the making.
pub(crate) struct Recording {
    worker: Rc<Worker>,
    record: Record,
    head_read: Instant,
    /// Verdict for the totals; `None`: nothing was judged.
    tally: Option<Tally>,
    flow: Flow,
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
        let mut record = Record {
            time_ns: unix_ns(),
            src_identity: flow.steered.src_identity,
            dst_identity: flow.steered.dst_identity,
            src_endpoint: flow.steered.src_endpoint,
            dst_endpoint: flow.steered.dst_endpoint,
            src_address: octets(flow.peer.0.ip()),
            dst_address: octets(flow.original_dst.0.ip()),
            src_port: u32::from(flow.peer.0.port()),
            dst_port: u32::from(flow.original_dst.0.port()),
            ..Record::default()
        };
        record.set_outcome(Outcome::Refused);
        let mut recording = Self {
            worker: Rc::clone(worker),
            record,
            head_read: Instant::now(),
            tally: None,
            flow: *flow,
            written: false,
        };
        // Until a request is judged: what the kernel decided when it steered the connection.
        recording.decisions(&Judgement::from(&flow.steered));
        recording
    }

    pub(crate) fn request(&mut self, protocol: &str, request: &HttpRequest<'_>) {
        self.record.http = Some(Http {
            protocol: protocol.to_owned(),
            method: shortened(request.method),
            path: shortened(request.path),
            host: shortened(request.host),
            status: 0,
        });
        self.record.grpc = request.grpc().map(|_| {
            let call = request.path.strip_prefix('/').and_then(|path| path.rsplit_once('/'));
            let (service, method) = call.unwrap_or_default();
            Grpc { service: shortened(service), method: shortened(method), ..Grpc::default() }
        });
    }

    /// How a gRPC call ended, with its messages each way.
    pub(crate) fn call_ended(&mut self, status: Option<u32>, asked: u64, answered: u64, after: Duration) {
        if let Some(grpc) = &mut self.record.grpc {
            grpc.status = status;
            (grpc.messages_from_client, grpc.messages_from_server) = (asked, answered);
            grpc.duration_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        }
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

    pub(crate) fn is_written(&self) -> bool {
        self.written
    }

    /// Writes it now. Nothing that comes later is in it.
    pub(crate) fn write(&mut self) {
        if std::mem::replace(&mut self.written, true) {
            return;
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
        self.worker.records.push(std::mem::take(&mut self.record));
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.write();
    }
}

/// A head may be far longer than anybody wants to read, and thousands of records wait at times.
const TEXT: usize = 2048;

/// The beginning of a text that is too long for a record.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn octets(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The bounded way from the workers to the link. Never blocks a worker: a full buffer costs records,
/// and they are counted.
#[derive(Clone)]
pub struct RecordSink {
    queue: tokio::sync::mpsc::Sender<Record>,
    octets: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    lost: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// The link's end.
pub struct RecordSource {
    queue: tokio::sync::mpsc::Receiver<Record>,
    octets: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    lost: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

/// Octets of all records that wait: who asks for long paths must not fill the memory.
const OCTETS: usize = 32 << 20;

/// What a record takes.
fn size(record: &Record) -> usize {
    let http = record.http.as_ref().map_or(0, |http| http.method.len() + http.path.len() + http.host.len());
    let kafka = record.kafka.as_ref().map_or(0, |kafka| {
        let topics: usize = kafka.topics.iter().map(|name| size_of::<String>() + name.len()).sum();
        topics + kafka.client_id.len() + kafka.group.len() + kafka.transactional_id.len()
    });
    size_of::<Record>() + record.reason.len() + http + kafka
}

/// A buffer for at most `capacity` records.
#[must_use]
pub fn buffer(capacity: usize) -> (RecordSink, RecordSource) {
    let (sender, receiver) = tokio::sync::mpsc::channel(capacity.max(1));
    let (lost, octets) = (std::sync::Arc::default(), std::sync::Arc::default());
    let sink = RecordSink {
        queue: sender,
        octets: std::sync::Arc::clone(&octets),
        lost: std::sync::Arc::clone(&lost),
    };
    (sink, RecordSource { queue: receiver, octets, lost })
}

impl RecordSink {
    pub fn push(&self, record: Record) {
        let size = size(&record);
        if self.octets.fetch_add(size, Relaxed) > OCTETS || self.queue.try_send(record).is_err() {
            self.octets.fetch_sub(size, Relaxed);
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl RecordSource {
    /// Takes what is there, at most `most`, without waiting: a waiting reader would have to be woken
    /// by each record.
    #[must_use]
    pub fn take(&mut self, most: usize) -> Vec<Record> {
        let mut batch = Vec::new();
        while batch.len() < most {
            match self.queue.try_recv() {
                Ok(record) => {
                    self.octets.fetch_sub(size(&record), Relaxed);
                    batch.push(record);
                }
                Err(_) => break,
            }
        }
        batch
    }

    /// Records that nobody has taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let (sink, mut source) = buffer(2);
        for _ in 0..5 {
            sink.push(Record::default());
        }
        assert_eq!(source.lost(), 3);
        assert_eq!(source.take(1).len(), 1);
        assert_eq!(source.take(9).len(), 1);
        assert_eq!(source.take(9).len(), 0);
    }

    #[test]
    fn long_paths_do_not_fill_the_memory() {
        let (sink, mut source) = buffer(1_000_000);
        let long = Record { reason: "x".repeat(1 << 20), ..Record::default() };
        for _ in 0..100 {
            sink.push(long.clone());
        }
        let kept = source.take(1_000).len();
        assert!((31..=33).contains(&kept), "{kept}");
        assert_eq!(source.lost(), 100 - kept as u64);
        sink.push(long);
        assert_eq!(source.take(9).len(), 1, "there is room again");
        assert_eq!(shortened(&"ä".repeat(5000)).chars().count(), TEXT + 1);
    }
}
