//! Bodies of API requests, the first octet choosing the type: refused, or the same once more after
//! they were written out.

use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};
use tektin::entrances::{
    ApplyRequest, Endpoint, EndpointAdd, ExplainRequest, Filter, FlowLine, FlowQuery, PolicySelector,
    PortProtocol, Status, WallClock, kernel, parse_prefix,
};
use tektin_abi::maps::Event;

use crate::records::World;

pub fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    match kind {
        b'a' => drop(read::<ApplyRequest>(body)),
        b'e' => drop(read::<EndpointAdd>(body)),
        b'E' => drop(read::<Endpoint>(body)),
        b'l' => drop(read::<FlowLine>(body)),
        b'p' => drop(read::<PolicySelector>(body)),
        b's' => drop(read::<Status>(body)),
        b'x' => drop(read::<ExplainRequest>(body)),
        b'f' => {
            let Some(query) = read::<FlowQuery>(body) else { return };
            let Ok(filter) = Filter::new(&query.filter) else { return };
            let record = kernel::record(&Event::default(), WallClock::now(), &World);
            let wanted = &query.filter;
            let asks_http = !(wanted.method.is_empty() && wanted.path.is_empty() && wanted.host.is_empty());
            assert!(!filter.matches(&record) || !asks_http, "a packet is no request");
        }
        _ => words(body),
    }
}

fn read<T: Serialize + DeserializeOwned + PartialEq + Debug>(body: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(body).ok()?;
    let json = serde_json::to_vec(&value).expect("JSON");
    assert_eq!(serde_json::from_slice::<T>(&json).expect("what was just written"), value);
    Some(value)
}

fn words(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    if let Ok(port) = text.parse::<PortProtocol>() {
        assert_ne!(port.port, 0);
        assert_eq!(port.to_string().parse(), Ok(port));
    }
    if let Ok(net) = parse_prefix(text) {
        assert_eq!((net.trunc(), parse_prefix(&net.to_string())), (net, Ok(net)));
    }
}
