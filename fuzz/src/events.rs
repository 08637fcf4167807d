//! The kernel's events as the agent reads them: any octets make a record that claims no pass which
//! the event does not plainly say, that survives JSON, and that does not speak to a terminal.

use tektin::entrances::{Verdict, WallClock, kernel};
use tektin_abi::maps::{Event, action, event_kind};

use crate::records::{World, shown_and_read_again};

pub fn run(data: &[u8]) {
    let Some(octets) = data.first_chunk::<{ size_of::<Event>() }>() else { return };
    // SAFETY: long enough; an Event may hold any bit pattern and is read unaligned.
    let event: Event = unsafe { std::ptr::read_unaligned(octets.as_ptr().cast()) };
    let record = kernel::record(&event, WallClock::now(), &World);

    let actions = [event.egress_action, event.ingress_action];
    let passes = [event_kind::NEW, event_kind::CHANGED].contains(&event.kind)
        && event.reason == 0
        && actions.iter().all(|number| [action::ALLOW, action::REDIRECT, action::NONE].contains(number));
    let redirected = actions.contains(&action::REDIRECT);
    assert_eq!(record.verdict == Verdict::Dropped, !passes);
    assert_eq!(record.verdict == Verdict::Redirected, passes && redirected);
    assert_eq!(record.reason.is_empty(), passes, "a drop has a reason");
    assert!(record.http.is_none() && record.source.port == 0 || event.flow.sport != 0);
    shown_and_read_again(record);
}
