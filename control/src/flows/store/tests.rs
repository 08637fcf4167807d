use super::*;
use crate::{
    api::FlowFilter,
    flows::{record::Verdict, testing},
};

/// A record that can be told by its revision.
fn numbered(revision: u32) -> Unread {
    record(revision).into()
}

fn record(revision: u32) -> FlowRecord {
    FlowRecord { revision, ..testing::record() }
}

fn revision(line: Option<FlowLine>) -> u32 {
    match line {
        Some(FlowLine::Flow(record)) => record.revision,
        other => panic!("expected a record, got {other:?}"),
    }
}

async fn all(mut reader: FlowReader) -> Vec<u32> {
    let mut revisions = Vec::new();
    while let Some(line) = reader.next().await {
        revisions.push(revision(Some(line)));
    }
    revisions
}

#[tokio::test]
async fn the_oldest_record_goes_first() {
    let store = FlowStore::with_capacity(3, 8);
    store.push((1..=5).map(numbered));
    assert_eq!(all(store.read(&FlowQuery::default()).unwrap()).await, [3, 4, 5]);
    assert_eq!(all(store.read(&FlowQuery { last: Some(2), ..FlowQuery::default() }).unwrap()).await, [4, 5]);
    assert_eq!((store.status().seen, store.status().kept), (5, 3));
}

#[tokio::test]
async fn last_counts_what_matches() {
    let store = FlowStore::with_capacity(9, 8);
    store.push([FlowRecord { verdict: Verdict::Dropped, ..record(1) }.into()]);
    store.push((2..=5).map(numbered));
    let filter = FlowFilter { verdict: vec![Verdict::Dropped], ..FlowFilter::default() };
    let query = FlowQuery { last: Some(2), follow: false, filter };
    assert_eq!(all(store.read(&query).unwrap()).await, [1]);
}

#[tokio::test]
async fn a_follower_sees_kept_then_live_records_once_each() {
    let store = FlowStore::with_capacity(9, 8);
    store.push([numbered(1)]);
    let mut reader = store.read(&FlowQuery { follow: true, ..FlowQuery::default() }).unwrap();
    store.push([numbered(2)]);
    assert_eq!(revision(reader.next().await), 1);
    assert_eq!(revision(reader.next().await), 2);
    store.push([numbered(3)]);
    assert_eq!(revision(reader.next().await), 3);
}

#[tokio::test]
async fn a_slow_follower_is_told_what_it_lost() {
    let store = FlowStore::with_capacity(9, 4);
    let mut reader = store.read(&FlowQuery { follow: true, ..FlowQuery::default() }).unwrap();
    store.push((1..=7).map(numbered));
    assert_eq!(reader.next().await, Some(FlowLine::Lost { lost: 3, at: LostAt::Reader }));
    assert_eq!(revision(reader.next().await), 4);
    assert_eq!(store.status().lost_readers, 3);
}

#[tokio::test]
async fn losses_elsewhere_are_counted_and_shown() {
    let store = FlowStore::default();
    let mut reader = store.read(&FlowQuery { follow: true, ..FlowQuery::default() }).unwrap();
    store.lost(LostAt::Kernel, 0);
    store.lost(LostAt::Kernel, 2);
    store.lost(LostAt::Proxy, 5);
    assert_eq!(reader.next().await, Some(FlowLine::Lost { lost: 2, at: LostAt::Kernel }));
    assert_eq!(reader.next().await, Some(FlowLine::Lost { lost: 5, at: LostAt::Proxy }));
    let status = store.status();
    assert_eq!((status.lost_kernel, status.lost_proxy, status.lost_readers), (2, 5, 0));
}

#[tokio::test]
async fn the_wire_form_is_one_json_object_a_line() {
    use futures::StreamExt as _;

    let store = FlowStore::default();
    store.push([numbered(1)]);
    store.push([numbered(2)]);
    let lines: Vec<_> = store.read(&FlowQuery::default()).unwrap().into_json_lines().collect().await;
    assert_eq!(lines.len(), 2);
    for (number, line) in lines.into_iter().enumerate() {
        let line = line.unwrap();
        assert_eq!(line.iter().filter(|octet| **octet == b'\n').count(), 1);
        let line: FlowLine = serde_json::from_slice(&line).unwrap();
        assert_eq!(revision(Some(line)), u32::try_from(number).unwrap() + 1);
    }
}

#[test]
fn lost_lines_are_told_from_records() {
    let lost = FlowLine::Lost { lost: 3, at: LostAt::Kernel };
    let json = serde_json::to_string(&lost).unwrap();
    assert_eq!(json, r#"{"lost":3,"at":"kernel"}"#);
    assert_eq!(serde_json::from_str::<FlowLine>(&json).unwrap(), lost);
}

/// What a proxy says that it has lost may be any number.
#[tokio::test]
async fn a_count_of_losses_ends_at_its_largest_number() {
    let store = FlowStore::with_capacity(3, 8);
    let mut reader = store.read(&FlowQuery { follow: true, ..FlowQuery::default() }).unwrap();
    store.restore_lost(LostBefore { proxies: u64::MAX - 1, kernel: 2 });
    for lost in [5, u64::MAX] {
        store.lost(LostAt::Proxy, lost);
        let told = reader.next().await;
        assert!(matches!(told, Some(FlowLine::Lost { lost: n, at: LostAt::Proxy }) if n == lost), "{told:?}");
        assert_eq!((store.status().lost_proxy, store.status().lost_kernel), (u64::MAX, 2));
    }
    store.lost(LostAt::Kernel, u64::MAX);
    assert_eq!(store.status().lost_kernel, u64::MAX);
}
