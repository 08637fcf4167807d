use tektin_proxy::link_proto::{Record, Records};

use super::*;

fn batch(first: u64, count: u64, lost_total: u64) -> Bytes {
    let numbers = (0..count).map(|number| first.wrapping_add(number) as u32);
    let records = numbers.map(|src_port| Record { src_port, ..Record::default() }).collect();
    Records { records, lost_total, first }.encode_to_vec().into()
}

fn ports(records: &[Request]) -> Vec<u32> {
    records.iter().map(|record| Record::decode(&*record.encoded).unwrap().src_port).collect()
}

fn requests(entries: &[Entry]) -> Vec<u32> {
    let records = entries.iter().flat_map(|entry| match entry {
        Entry::Requests(records) => ports(records),
        Entry::Packets(_) => Vec::new(),
    });
    records.collect()
}

#[test]
fn what_was_taken_is_there_again_and_is_not_taken_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, before) = Journal::open(directory.path());
    assert!(before.is_empty());
    let taken = journal.take(7, &batch(1, 3, 0)).unwrap();
    assert_eq!((ports(&taken.records), taken.lost, taken.through), (vec![1, 2, 3], 0, 3));
    journal.packets(&[Event { time_ns: 5, ..Event::default() }, Event::default()]);
    assert_eq!(journal.kernel_lost(4), 4);
    assert_eq!(journal.take(7, &batch(4, 2, 9)).unwrap().lost, 9);
    drop(journal);

    let (journal, before) = Journal::open(directory.path());
    assert_eq!(requests(&before), [1, 2, 3, 4, 5]);
    assert_eq!(journal.lost_before(), LostBefore { proxies: 9, kernel: 4 });
    assert!(matches!(&before[1], Entry::Packets(events) if events.len() == 2 && events[0].time_ns == 5));
    // Sent again, because the acknowledgement was lost.
    let taken = journal.take(7, &batch(4, 2, 9)).unwrap();
    assert_eq!(taken, Taken { through: 5, lost_total: 9, ..Taken::default() });
    let taken = journal.take(7, &batch(5, 3, 10)).unwrap();
    assert_eq!((ports(&taken.records), taken.lost, taken.through), (vec![6, 7], 1, 7));
    assert_eq!(journal.kernel_lost(6), 2);
    // Maps that were made anew count anew.
    assert_eq!(journal.kernel_lost(1), 1);
    // Of another process.
    assert_eq!(ports(&journal.take(8, &batch(1, 1, 0)).unwrap().records), [1]);
}

#[test]
fn what_another_agent_took_with_it_is_counted_as_lost() {
    let journal = Journal::default();
    let taken = journal.take(7, &batch(11, 2, 3)).unwrap();
    assert_eq!((ports(&taken.records), taken.lost, taken.through), (vec![11, 12], 13, 12));
    assert!(matches!(journal.take(7, &batch(0, 2, 3)), Err(JournalError::Unnumbered)));
    assert!(matches!(journal.take(7, &Bytes::from_static(b"\xff")), Err(JournalError::Batch(_))));
    assert_eq!(journal.take(7, &batch(13, 1, 3)).unwrap().through, 13);
}

#[test]
fn numbers_of_a_hostile_proxy_are_refused_or_counted() {
    let journal = Journal::default();
    // No room for the second record's number.
    assert!(matches!(journal.take(7, &batch(u64::MAX, 2, 0)), Err(JournalError::Unnumbered)));
    let taken = journal.take(7, &batch(u64::MAX, 1, u64::MAX)).unwrap();
    assert_eq!((taken.records.len(), taken.lost, taken.through), (1, u64::MAX, u64::MAX));
    let taken = journal.take(7, &batch(u64::MAX, 1, u64::MAX)).unwrap();
    assert_eq!((taken.records.len(), taken.lost, taken.through), (0, 0, u64::MAX));
    assert_eq!(journal.take(8, &batch(1, 1, 5)).unwrap().lost, 5);
    assert_eq!(journal.lost_before().proxies, u64::MAX);
}

/// The sums that such numbers make are written down, and the next agent adds to them.
#[test]
fn sums_of_a_hostile_proxys_numbers_end_at_the_largest_one() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let (journal, before) = Journal::open(directory.path());
        let had = journal.lost_before().proxies;
        assert_eq!((requests(&before).len(), had), if round == 0 { (0, 0) } else { (3, u64::MAX) });
        // A gap and a count: each is all that there can be, together they are no more.
        let instance = 7 + 2 * round;
        assert_eq!(journal.take(instance, &batch(u64::MAX - 1, 1, u64::MAX - 1)).unwrap().lost, u64::MAX);
        let second = journal.take(instance, &batch(u64::MAX, 1, u64::MAX)).unwrap();
        assert_eq!((second.records.len(), second.lost, second.through), (1, 1, u64::MAX));
        // Of what comes after the last number nothing is new, and a smaller count takes nothing back.
        let third = journal.take(instance, &batch(u64::MAX, 1, 3)).unwrap();
        assert_eq!((third.records.len(), third.lost), (0, 0));
        assert_eq!(journal.lost_before().proxies, u64::MAX);
        assert_eq!(journal.take(instance + 1, &batch(1, 1, 9)).unwrap().lost, 9);
        assert_eq!(journal.lost_before().proxies, u64::MAX);
    }
}

/// A kill at any instant leaves a prefix.
#[test]
fn a_torn_end_is_as_if_it_had_never_been_begun() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILES[0]);
    let (journal, _) = Journal::open(directory.path());
    let start = fs::metadata(&path).unwrap().len() as usize;
    let mut ends = vec![start];
    for n in 0..3 {
        journal.take(7, &batch(n * 2 + 1, 2, 0)).unwrap();
        ends.push(fs::metadata(&path).unwrap().len() as usize);
    }
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (journal, before) = Journal::open(directory.path());
        let batches = ends.iter().filter(|end| **end <= cut).count().saturating_sub(1) as u64;
        assert_eq!(requests(&before).len() as u64, batches * 2, "cut at {cut} of {}", whole.len());
        // What came after is written behind it and read again.
        let next = batch(batches * 2 + 1, 2, 0);
        assert_eq!(journal.take(7, &next).unwrap().records.len(), 2);
        drop(journal);
        let (_, again) = Journal::open(directory.path());
        assert_eq!(requests(&again).len() as u64, batches * 2 + 2, "cut at {cut}");
        let _ = fs::remove_file(directory.path().join(FILES[1]));
    }
    // An octet changed on the way.
    let mut damaged = whole.clone();
    damaged[ends[1] + 20] ^= 1;
    fs::write(&path, &damaged).unwrap();
    assert_eq!(requests(&Journal::open(directory.path()).1), [1, 2]);
}

#[test]
fn it_does_not_grow_without_bound_and_forgets_no_number() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(directory.path());
    let step = 1024;
    let batches = 3 * FULL as u64 / step + 1;
    for n in 0..batches {
        journal.take(7, &batch(n * step + 1, step, 2)).unwrap();
    }
    journal.kernel_lost(5);
    drop(journal);
    let (journal, before) = Journal::open(directory.path());
    let kept = requests(&before);
    assert_eq!(journal.lost_before(), LostBefore { proxies: 2, kernel: 5 });
    assert!(kept.len() >= FULL && kept.len() <= 2 * FULL, "{}", kept.len());
    assert_eq!(u64::from(*kept.last().unwrap()), batches * step);
    let taken = journal.take(7, &batch(batches * step + 1, 1, 2)).unwrap();
    assert_eq!((taken.lost, taken.through), (0, batches * step + 1));
    assert_eq!(journal.kernel_lost(5), 0);
    for instance in 100..200 {
        journal.take(instance, &batch(1, 1, 0)).unwrap();
    }
    assert_eq!(journal.inner().proxies.len(), INSTANCES);
}

#[test]
fn another_boots_journal_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILES[0]), "tektin flows v0 1 somewhere\nxxxxxxxxxxxxxxxxxx").unwrap();
    let (journal, before) = Journal::open(directory.path());
    assert!(before.is_empty());
    journal.take(7, &batch(1, 1, 0)).unwrap();
    assert_eq!(requests(&Journal::open(directory.path()).1), [1]);
}
