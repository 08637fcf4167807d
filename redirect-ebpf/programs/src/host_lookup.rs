//! sk_lookup: a host process's connection that `host_connect` marked arrives at a workload's
//! address inside the host. It goes to a listener of the proxy or nowhere: any other listener
//! would take the workload's place. The same holds for a steered connection whose SYN meets a
//! TIME_WAIT of its ports: the kernel ends that one and asks here for the listener.
//!
//! Runs within tc programs too (`bpf_skc_lookup_tcp`), so it uses the stack, not the scratch area.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{bpf_sk_lookup, sk_action},
    programs::SkLookupContext,
};
use tektin_abi::{
    DropReason, conntrack,
    judge::{End, Verdict, judge},
    maps::*,
};

use crate::{
    event,
    maps::{CONFIG, CT, count, now},
    steer,
    tables::{KernelTables, end_at},
};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

#[inline(always)]
pub(crate) fn run(ctx: &SkLookupContext) -> u32 {
    let Some(flow) = flow(ctx.lookup) else { return sk_action::SK_PASS };
    let dst = end_at(&flow.dst);
    let src = end_at(&flow.src);
    let Some(config) = CONFIG.get(0) else { return sk_action::SK_DROP };
    if dst.endpoint == 0 || src.identity != identity::HOST {
        // SAFETY: a live map value.
        let proxied =
            CT.get_ptr_mut(&flow).is_some_and(|entry| unsafe { (*entry).flags } & ct_flag::PROXIED != 0);
        return match proxied.then(|| steer::to_listener(ctx.as_ptr(), &flow, config.listeners)) {
            Some(Err(_)) => sk_action::SK_DROP,
            Some(Ok(())) | None => sk_action::SK_PASS,
        };
    }
    let now = now();
    let src = End { identity: identity::HOST, endpoint: 0 };
    let judgement = judge(&KernelTables, &flow, src, dst);
    let why = conntrack::announcement(src, dst, judgement, config.revision);
    let delivered = match judgement.verdict() {
        Verdict::Redirect => steer::announce(&flow, &why, now)
            .and_then(|()| steer::to_listener(ctx.as_ptr(), &flow, config.listeners)),
        // The policy changed since the connection was marked.
        Verdict::Allow => Err(DropReason(drop::INVALID_DESTINATION)),
        Verdict::Deny(reason) => Err(reason),
    };
    // SAFETY: the context is valid as long as the program runs.
    let ifindex = unsafe { (*ctx.lookup).ingress_ifindex };
    match delivered {
        Ok(()) => {
            count(metric::STEERED);
            event::report_lookup(&flow, &why, ifindex, drop::NONE);
            sk_action::SK_PASS
        }
        Err(reason) => {
            count(u32::from(reason.0));
            event::report_lookup(&flow, &why, ifindex, reason.0);
            sk_action::SK_DROP
        }
    }
}

#[inline(always)]
fn flow(ctx: *const bpf_sk_lookup) -> Option<FlowKey> {
    // All fields are read before the family is looked at: loads in two branches would be made one
    // through a computed pointer, which the verifier refuses for a context.
    // SAFETY: the context is valid as long as the program runs; fields of the other family read 0.
    let (family, protocol, src4, dst4, src6, dst6, sport, dport) = unsafe {
        (
            (&raw const (*ctx).family).read_volatile(),
            (&raw const (*ctx).protocol).read_volatile(),
            (&raw const (*ctx).remote_ip4).read_volatile(),
            (&raw const (*ctx).local_ip4).read_volatile(),
            words(&raw const (*ctx).remote_ip6),
            words(&raw const (*ctx).local_ip6),
            (&raw const (*ctx).remote_port).read_volatile(),
            (&raw const (*ctx).local_port).read_volatile(),
        )
    };
    if protocol != u32::from(proto::TCP) {
        return None;
    }
    let (src, dst) = match family {
        AF_INET => (v4_mapped(src4.to_ne_bytes()), v4_mapped(dst4.to_ne_bytes())),
        AF_INET6 => (v6(src6), v6(dst6)),
        _ => return None,
    };
    let (sport, dport) = (u16::from_be(sport), dport as u16);
    Some(FlowKey { src, dst, sport, dport, proto: proto::TCP, _pad: [0; 3] })
}

/// Reads an address out of a context, word by word, as the verifier wants it.
///
/// # Safety
/// `at` is four words of a valid context.
#[inline(always)]
pub(crate) unsafe fn words(at: *const [u32; 4]) -> [u32; 4] {
    let at: *const u32 = at.cast();
    // SAFETY: the caller's.
    unsafe {
        [at.read_volatile(), at.add(1).read_volatile(), at.add(2).read_volatile(), at.add(3).read_volatile()]
    }
}

/// Four words as they lie in memory.
#[inline(always)]
pub(crate) fn v6(words: [u32; 4]) -> Addr {
    let [a, b, c, d] =
        [words[0].to_ne_bytes(), words[1].to_ne_bytes(), words[2].to_ne_bytes(), words[3].to_ne_bytes()];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}
