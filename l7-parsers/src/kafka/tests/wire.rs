//! Every request and answer, in every version: what this module writes is read by kafka-protocol, which
//! was made from the same definitions by other hands, and written again to the same octets; and back.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use proptest::prelude::*;

use super::random::{Dice, random_struct, written};
use crate::kafka::{
    decode::{self, Malformed},
    schema::{self, Layout, Message},
};

/// Reads what was written and writes it again, with both; what kafka-protocol makes of it.
fn compare(
    message: &Message,
    layout: &Layout,
    version: i16,
    dice: &mut Dice,
    what: &str,
) -> Result<(), String> {
    let flexible = message.flexible.contains(version);
    let octets = written(layout, &random_struct(layout, version, dice), version, flexible);
    let decoded = decode::decode(layout, &octets, version, flexible, 1 << 20);
    let again = decoded.map(|decoded| written(layout, &decoded.value, version, flexible));
    assert_eq!(again.as_deref(), Ok(&octets[..]), "{what} {} v{version}", message.name);

    let key = ApiKey::try_from(message.key).expect("kafka-protocol knows the request");
    let (mut rest, mut theirs) = (octets.clone(), BytesMut::new());
    let read = match what {
        "request" => {
            RequestKind::decode(key, &mut rest, version).and_then(|kind| kind.encode(&mut theirs, version))
        }
        _ => ResponseKind::decode(key, &mut rest, version).and_then(|kind| kind.encode(&mut theirs, version)),
    };
    read.map_err(|error| format!("{error:#}"))?;
    if !rest.is_empty() {
        return Err(format!("{} octets more", rest.len()));
    }
    if theirs != octets { Err("other octets".into()) } else { Ok(()) }
}

/// Requests and versions that kafka-protocol does not have (yet).
fn is_known_to_both(message: &Message, version: i16) -> bool {
    ApiKey::try_from(message.key)
        .is_ok_and(|key| (key.valid_versions().min..=key.valid_versions().max).contains(&version))
}

/// Versions that kafka-protocol 0.18 counts as known and then refuses to read.
const FAULTS: [&str; 3] =
    ["request InitProducerId v6", "request OffsetCommit v10", "request OffsetFetch v10"];

#[test]
fn every_version_reads_and_writes_as_kafka_protocol_does() {
    let mut dice = Dice(0x5eed_cafe);
    let (mut compared, mut alone, mut differ) = (0, Vec::new(), BTreeMap::new());
    for message in schema::messages() {
        for version in message.versions.first..=message.versions.last {
            if !is_known_to_both(message, version) {
                alone.push(format!("{} v{version}", message.name));
                continue;
            }
            for _ in 0..30 {
                for (what, layout) in [("request", &message.request), ("answer", &message.response)] {
                    if let Err(error) = compare(message, layout, version, &mut dice, what) {
                        differ.insert(format!("{what} {} v{version}", message.name), error);
                    }
                }
            }
            compared += 1;
        }
    }
    println!("{compared} versions compared; not known to kafka-protocol: {}", alone.join(", "));
    assert!(compared > 200, "{compared}");
    let names: Vec<&str> = differ.keys().map(String::as_str).collect();
    assert_eq!(names, FAULTS, "{differ:#?}");
}

#[test]
fn a_length_beyond_the_frame_is_refused_before_anything_is_made_of_it() {
    let message = schema::message(1).unwrap();
    // Fetch v4: replica, wait, least, most, isolation, then an array of 2^31 - 1 topics.
    let octets = Bytes::from([&[0_u8; 17][..], &i32::MAX.to_be_bytes()].concat());
    let read = decode::decode(&message.request, &octets, 4, false, 1 << 20);
    assert_eq!(read.err(), Some(Malformed::Length));
}

#[test]
fn the_number_of_values_is_bounded() {
    let message = schema::message(1).unwrap();
    let octets = Bytes::from([&[0_u8; 17][..], &[0, 0, 1, 0], &[0; 6 * 256], &[0; 8]].concat());
    let read = |values| decode::decode(&message.request, &octets, 4, false, values).err();
    assert_eq!(read(100), Some(Malformed::TooManyValues));
    assert_ne!(read(1 << 20), Some(Malformed::TooManyValues));
}

#[test]
fn tagged_fields_come_in_order_and_once() {
    let message = schema::message(18).unwrap();
    let read = |tags: &[u8]| {
        let body = [&[2, b'a', 2, b'1'], tags].concat();
        decode::decode(&message.request, &Bytes::from(body), 3, true, 100).map(|read| read.extra)
    };
    assert_eq!(read(&[0]), Ok(decode::Extra::None));
    assert_eq!(read(&[1, 9, 2, 0, 0]), Ok(decode::Extra::Dropped));
    assert_eq!(read(&[2, 9, 0, 9, 0]), Err(Malformed::Tag));
    assert_eq!(read(&[2, 9, 0, 8, 0]), Err(Malformed::Tag));
    assert_eq!(read(&[1, 9, 5, 0]), Err(Malformed::Tag));
    assert_eq!(read(&[0, 0]), Ok(decode::Extra::Dropped));
}

proptest! {
    #[test]
    fn no_octets_make_the_decoder_panic(key in 0..93_i16, version in 0..19_i16, octets: Vec<u8>) {
        let Some(message) = schema::message(key) else { return Ok(()) };
        let octets = Bytes::from(octets);
        let flexible = message.flexible.contains(version);
        for layout in [&message.request, &message.response] {
            let _ = decode::decode(layout, &octets, version, flexible, 1000);
        }
    }

    /// A valid message with some octets changed.
    #[test]
    fn no_change_of_octets_makes_the_decoder_panic(
        seed in 1..u64::MAX, at: proptest::sample::Index, to: [u8; 4],
    ) {
        let mut dice = Dice(seed);
        let messages = schema::messages();
        let message = &messages[dice.roll(messages.len() as u64) as usize];
        let version = message.versions.first + dice.roll(message.versions.last as u64 + 1) as i16;
        let version = version.min(message.versions.last);
        let flexible = message.flexible.contains(version);
        for layout in [&message.request, &message.response] {
            let value = random_struct(layout, version, &mut dice);
            let mut octets = written(layout, &value, version, flexible).to_vec();
            if octets.is_empty() {
                continue;
            }
            let at = at.index(octets.len());
            let end = octets.len().min(at + 4);
            octets[at..end].copy_from_slice(&to[..end - at]);
            let octets = Bytes::from(octets);
            if let Ok(decoded) = decode::decode(layout, &octets, version, flexible, 1 << 16) {
                let again = written(layout, &decoded.value, version, flexible);
                let twice = decode::decode(layout, &again, version, flexible, 1 << 16).unwrap();
                prop_assert_eq!(twice.value, decoded.value);
            }
        }
    }
}
