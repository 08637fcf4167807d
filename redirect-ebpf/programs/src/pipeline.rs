//! From a parsed packet to what is done with it: the same steps at every tc hook.

use tektin_abi::{
    DropReason,
    conntrack::{self, Admission, Direction, Passing, SECOND_NS, Sender, Standing},
    judge::judge,
    maps::*,
    packet::{Kind, Packet},
};

use crate::{
    event::{self, Action},
    fragments, handover,
    maps::{CONFIG, CT, STEERED, Scratch, count},
    related,
    skb::{Owner, Skb},
    steer::{self, Delivery, Trust},
    tables::{KernelTables, end_of},
};

/// What is the same for all steps of one packet.
pub(crate) struct Run<'a> {
    pub(crate) skb: Skb,
    /// `hook` code; a constant in each program, so that what a hook does not do is not in it.
    pub(crate) hook: u8,
    /// The endpoint of the device.
    pub(crate) local: Option<&'a EndpointValue>,
    pub(crate) now: u64,
}

/// Decides about the packet in `area`, whose addresses may be believed.
#[inline(always)]
pub(crate) fn decide(run: &Run<'_>, area: &mut Scratch) -> Action {
    let Some(config) = CONFIG.get_ptr(0) else { return Action::drop(DropReason(drop::MAP_FULL)) };
    // Read once, before anything is judged: with a revision that came later, an entry would say for good
    // what the policy before it said.
    // SAFETY: the value lives as long as the map, and every bit pattern is a valid one.
    let config = &unsafe { core::ptr::read_volatile(config) };
    if let Err(reason) = fragments::resolve(&mut area.packet, run.now) {
        return Action::drop(reason);
    }
    if let Some(action) = related::follow(run.skb, &area.packet, run.hook, config.revision, run.now) {
        return action;
    }
    let action = track(run, area, config);
    if action.passes()
        && let Err(reason) = fragments::remember(&area.packet, run.now)
    {
        return Action::drop(reason);
    }
    action
}

#[inline(always)]
fn track(run: &Run<'_>, area: &mut Scratch, config: &Config) -> Action {
    let (revision, now) = (config.revision, run.now);
    let mut answered = false;
    let mut direction = Direction::Reply;
    let mut found = None;
    let mut standing = Standing::Absent;
    // The lower port is mostly the server's: its answers are looked for under the client's key first.
    // Nothing but a flow that stands is taken from there; all else is decided in the order below.
    if likely_answer(&area.packet) {
        found = CT.get_ptr_mut(&area.packet.keys.reverse);
        standing = standing_of(run, found, direction, &area.packet, revision);
    }
    if !matches!(standing, Standing::Pass | Standing::Proxied) {
        direction = Direction::Forward;
        found = CT.get_ptr_mut(&area.packet.keys.forward);
        standing = standing_of(run, found, direction, &area.packet, revision);
        if standing == Standing::Absent && area.packet.keys.reverse.proto != 0 {
            direction = Direction::Reply;
            found = CT.get_ptr_mut(&area.packet.keys.reverse);
            standing = standing_of(run, found, direction, &area.packet, revision);
        }
    }
    if let Some(found) = found {
        // SAFETY: a live map value. Other CPUs may change it meanwhile; each field is read or
        // written on its own, and a lost store costs a second of expiry.
        let entry = unsafe { &mut *found };
        match standing {
            Standing::Absent => {
                answered = direction == Direction::Reply;
                if answered && entry.flags & ct_flag::DENIED != 0 {
                    answered = false;
                    // What the other end may not begin must not stand in the way of its answers to
                    // this one. Fails only where the entry has gone by itself.
                    let _ = CT.remove(&area.packet.keys.reverse);
                }
            }
            Standing::Pass => {
                conntrack::note(entry, direction, &area.packet, now);
                return onward(run, entry, direction, &area.packet);
            }
            Standing::Proxied => {
                if let Some(action) = proxied(run, &area.packet, direction, entry.flags) {
                    if !action.passes() {
                        // For the event: whose flow this is.
                        area.entry = *entry;
                    } else {
                        conntrack::note(entry, direction, &area.packet, now);
                    }
                    return action;
                }
                // A SYN whose old connection is gone from the proxy: a new connection.
            }
            Standing::Drop(reason) => return denied(run, area, entry, direction, reason),
            Standing::Stale => return again(run, area, entry, direction, config),
        }
    }
    first(run, area, config, answered)
}

#[inline(always)]
fn likely_answer(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Transport)
        && packet.keys.forward.sport < packet.keys.forward.dport
        && !packet.opens_connection()
}

#[inline(always)]
fn denied(
    run: &Run<'_>,
    area: &mut Scratch,
    entry: &mut CtValue,
    direction: Direction,
    reason: DropReason,
) -> Action {
    conntrack::note_denied(entry, area.packet.keys.forward.proto, run.now);
    if run.now >= entry.reported_ns + SECOND_NS {
        entry.reported_ns = run.now;
        area.entry = *entry;
        let flow = match direction {
            Direction::Forward => &area.packet.keys.forward,
            Direction::Reply => &area.packet.keys.reverse,
        };
        event::report(run.skb, area, flow, (run.hook, event_kind::DROP, reason.0));
    }
    Action::drop_reported(reason)
}

#[inline(always)]
fn standing_of(
    run: &Run<'_>,
    found: Option<*mut CtValue>,
    direction: Direction,
    packet: &Packet,
    revision: u32,
) -> Standing {
    let passing = match (run.local, run.hook) {
        (Some(endpoint), hook::TO_WORKLOAD) => Passing::To(endpoint.id),
        (Some(endpoint), _) => Passing::From(endpoint.id),
        (None, _) => Passing::Elsewhere,
    };
    match found {
        // SAFETY: a live map value.
        Some(entry) => {
            conntrack::standing(unsafe { &*entry }, direction, passing, packet, (revision, run.now))
        }
        None => Standing::Absent,
    }
}

/// A packet of a proxied flow whose entry has `flags`. `None`: a SYN that has no socket.
#[inline(always)]
fn proxied(run: &Run<'_>, packet: &Packet, direction: Direction, flags: u8) -> Option<Action> {
    if run.hook == hook::TO_WORKLOAD {
        return Some(match run.skb.owner() {
            // Partial: what a half-open or a TIME_WAIT connection of the proxy answers. Forwarded
            // packets have no socket at all, and only the proxy's are bound to these addresses.
            Owner::Proxy | Owner::Partial => Action::PASS,
            Owner::Other | Owner::Nobody => Action::drop(DropReason(drop::NOT_FROM_PROXY)),
        });
    }
    match steer::to_existing(run.skb, packet, Trust::AnySocket) {
        Delivery::Done => {
            if direction == Direction::Reply {
                count(metric::REPLY_TO_PROXY);
            }
            Some(Action::TO_PROXY)
        }
        Delivery::Failed => Some(Action::drop(DropReason(drop::ASSIGN_FAILED))),
        Delivery::NoSocket if packet.is_fragment() => {
            Some(Action::drop(DropReason(drop::FRAGMENT_OF_STEERED)))
        }
        Delivery::NoSocket | Delivery::Waiting if packet.opens_connection() => None,
        // What is still on its way when one end has reset the connection, or says so once more.
        Delivery::NoSocket | Delivery::Waiting if flags & ct_flag::CLOSING != 0 => Some(Action::IGNORE),
        Delivery::NoSocket | Delivery::Waiting => Some(Action::drop(DropReason(drop::PROXIED_NO_SOCKET))),
    }
}

/// A packet that may pass, as `entry` says: to the other workload at once, or through the node's stack.
#[inline(always)]
fn onward(run: &Run<'_>, entry: &CtValue, direction: Direction, packet: &Packet) -> Action {
    if run.hook != hook::FROM_WORKLOAD || entry.flags & ct_flag::HANDED_OVER == 0 {
        return Action::PASS;
    }
    let to = match direction {
        Direction::Forward => entry.dst_endpoint,
        Direction::Reply => entry.src_endpoint,
    };
    handover::to_endpoint(run.skb, packet, to)
}

/// Judges a flow again whose entry is of another revision.
#[inline(always)]
fn again(
    run: &Run<'_>,
    area: &mut Scratch,
    entry: &CtValue,
    direction: Direction,
    config: &Config,
) -> Action {
    let flow = match direction {
        Direction::Forward => area.packet.keys.forward,
        Direction::Reply => area.packet.keys.reverse,
    };
    count(metric::REJUDGED);
    area.entry = *entry;
    let before = conntrack::settled(&area.entry);
    let ends = (end_of(&flow.src, run.local), end_of(&flow.dst, run.local));
    let judgement = judge(&KernelTables, &flow, ends.0, ends.1);
    let after = conntrack::rejudge(&mut area.entry, &flow, ends, judgement, (config.revision, run.now));
    let reason = match after {
        Standing::Drop(reason) => Some(reason),
        _ => None,
    };
    let changed = matches!(before, Standing::Drop(_)) != reason.is_some();
    if reason.is_none() {
        conntrack::note(&mut area.entry, direction, &area.packet, run.now);
    }
    let report = changed || (reason.is_some() && run.now >= area.entry.reported_ns + SECOND_NS);
    if report {
        area.entry.reported_ns = run.now;
    }
    if CT.insert(&flow, &area.entry, 0).is_err() {
        return Action::drop(DropReason(drop::MAP_FULL));
    }
    if report {
        let kind = if changed { event_kind::CHANGED } else { event_kind::DROP };
        let code = reason.map_or(drop::NONE, |reason| reason.0);
        event::report(run.skb, area, &flow, (run.hook, kind, code));
    }
    match after {
        Standing::Drop(reason) => Action::drop_reported(reason),
        Standing::Proxied => match proxied(run, &area.packet, direction, area.entry.flags) {
            Some(action) => action,
            None => Action::drop(DropReason(drop::PROXIED_NO_SOCKET)),
        },
        Standing::Pass => onward(run, &area.entry, direction, &area.packet),
        Standing::Absent | Standing::Stale => Action::drop(DropReason(drop::DEFAULT_DENY)),
    }
}

/// A flow that no entry speaks for; `answered` where the other end's flow between the same ports does
/// not either.
#[inline(always)]
fn first(run: &Run<'_>, area: &mut Scratch, config: &Config, answered: bool) -> Action {
    let sender = sender(run, &area.packet);
    let mut flow = match sender {
        // The proxy's socket knows the connection, its entry was evicted or never made. It is the
        // client's where it was announced as such, else the proxy opened it.
        First::Adopted if STEERED.get_ptr(&area.packet.keys.forward).is_none() => area.packet.keys.reverse,
        _ => area.packet.keys.forward,
    };
    let mut ends = (end_of(&flow.src, run.local), end_of(&flow.dst, run.local));
    let mut judgement = judge(&KernelTables, &flow, ends.0, ends.1);
    let midstream =
        flow.proto == proto::TCP && matches!(sender, First::Network) && !area.packet.opens_connection();
    if midstream && judgement.allows() {
        // Nobody knows which end began the connection. If either may not, this may be the answer
        // that keeps a refused one alive.
        let answered = (ends.1, ends.0);
        let other = judge(&KernelTables, &area.packet.keys.reverse, answered.0, answered.1);
        if !other.allows() {
            flow = area.packet.keys.reverse;
            (ends, judgement) = (answered, other);
        }
    }
    let by = if matches!(sender, First::Network) { Sender::Network } else { Sender::Proxy };
    let admission =
        conntrack::open(&mut area.entry, &area.packet, ends, judgement, by, (config.revision, run.now));
    area.entry.reported_ns = run.now;
    if run.hook == hook::TO_WORKLOAD && admission == Admission::Steer {
        // Too late to steer: only the proxy's own sockets may send this here. No entry, because
        // the same packet may come again by way of the proxy.
        return Action::drop(DropReason(drop::NOT_FROM_PROXY));
    }
    if answered && let Admission::Drop(reason) = admission {
        // No entry: it would stand before the other end's, whose answers it would refuse.
        return Action::drop(reason);
    }
    if run.hook == hook::FROM_WORKLOAD
        && admission == Admission::Pass
        && handover::is_open(area.entry.dst_endpoint)
    {
        area.entry.flags |= ct_flag::HANDED_OVER;
    }
    if CT.insert(&flow, &area.entry, 0).is_err() {
        return Action::drop(DropReason(drop::MAP_FULL));
    }
    count(metric::NEW_FLOWS);
    let steered = admission == Admission::Steer;
    // A number, `NONE` for a packet that passes: the verifier sees an enum's unset half as an unset
    // register.
    let reason = match admission {
        Admission::Drop(reason) => reason.0,
        Admission::Pass if matches!(sender, First::Adopted) => {
            return match steer::to_existing(run.skb, &area.packet, Trust::MarkedSocket) {
                Delivery::Done => Action::TO_PROXY,
                _ => Action::drop(DropReason(drop::PROXIED_NO_SOCKET)),
            };
        }
        // The flow that this one continues was reported.
        Admission::Pass if matches!(sender, First::FromProxy) => return Action::PASS,
        Admission::Pass => drop::NONE,
        Admission::Steer => begin_steering(run, area, config),
    };
    let kind = if reason == drop::NONE { event_kind::NEW } else { event_kind::DROP };
    event::report(run.skb, area, &flow, (run.hook, kind, reason));
    match (reason, steered) {
        (drop::NONE, true) => Action::TO_PROXY,
        (drop::NONE, false) => onward(run, &area.entry, Direction::Forward, &area.packet),
        (reason, _) => Action::drop_reported(DropReason(reason)),
    }
}

/// Who sent a flow's first packet, or whom it is for.
#[derive(Clone, Copy)]
enum First {
    Network,
    /// A socket of the local proxy sent it.
    FromProxy,
    /// A socket of the local proxy waits for it.
    Adopted,
}

#[inline(always)]
fn sender(run: &Run<'_>, packet: &Packet) -> First {
    if packet.keys.forward.proto != proto::TCP {
        return First::Network;
    }
    if run.hook == hook::TO_WORKLOAD {
        return if run.skb.owner() == Owner::Proxy { First::FromProxy } else { First::Network };
    }
    if packet.opens_connection() {
        return First::Network;
    }
    match steer::to_existing(run.skb, packet, Trust::MarkedSocket) {
        Delivery::Done => First::Adopted,
        _ => First::Network,
    }
}

/// `NONE`, or why the connection cannot be steered.
#[inline(always)]
fn begin_steering(run: &Run<'_>, area: &Scratch, config: &Config) -> u8 {
    let flow = &area.packet.keys.forward;
    if area.packet.is_fragment() {
        return drop::FRAGMENT_OF_STEERED;
    }
    // A retransmitted SYN belongs to the half-made connection that the first one began.
    let waiting = match steer::to_existing(run.skb, &area.packet, Trust::AnySocket) {
        Delivery::Done => return drop::NONE,
        Delivery::Failed => return drop::ASSIGN_FAILED,
        Delivery::Waiting => true,
        Delivery::NoSocket => false,
    };
    if let Err(DropReason(reason)) = steer::announce(flow, &area.entry, run.now) {
        return reason;
    }
    // A listener that is assigned would drop the SYN as a duplicate of what is in TIME_WAIT. Only
    // the kernel can end that: it then looks for a listener itself, and `host_lookup` names ours.
    if !waiting
        && let Err(DropReason(reason)) = steer::to_listener(run.skb.raw.cast(), flow, config.listeners)
    {
        return reason;
    }
    count(metric::STEERED);
    run.skb.set_mark(mark::TO_PROXY);
    drop::NONE
}
