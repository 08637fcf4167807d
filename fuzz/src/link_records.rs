//! Messages of a proxy, which has read hostile octets and may be hostile itself: each record in them
//! becomes a flow record that is safe to keep and to show.

use prost::Message;
use tektin::entrances::{Verdict, proxy};
use tektin_proxy::link_proto::{FromProxy, Outcome, Records, from_proxy};

use crate::records::{World, shown_and_read_again};

pub fn run(data: &[u8]) {
    let Ok(message) = FromProxy::decode(data) else { return };
    let again = FromProxy::decode(message.encode_to_vec().as_slice()).expect("what was just written");
    assert_eq!(again, message);
    let records = match message.kind {
        Some(from_proxy::Kind::Records(records)) => records,
        Some(from_proxy::Kind::NumberedRecords(octets)) => match Records::decode(octets.as_ref()) {
            Ok(records) => records,
            Err(_) => return,
        },
        _ => return,
    };
    for sent in records.records.iter().take(8) {
        let record = proxy::record(sent, &World);
        assert_eq!(record.verdict == Verdict::Forwarded, sent.outcome() == Outcome::Allowed);
        assert_eq!(u32::from(record.source.port), if sent.src_port > 0xffff { 0 } else { sent.src_port });
        assert_eq!(record.source.ip.is_some(), [4, 16].contains(&sent.src_address.len()));
        shown_and_read_again(record);
    }
}
