//! cgroup connect: a host process's connection to a local workload whose policy judges requests
//! gets the mark that routes it to the proxy. Other network namespaces are left alone.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_setsockopt},
    programs::SockAddrContext,
};
use tektin_abi::{
    judge::{End, Verdict, judge},
    maps::*,
};

use crate::{
    host_lookup::v6,
    maps::CONFIG,
    tables::{KernelTables, end_at},
};

const SOCK_STREAM: u32 = 1;
const SOL_SOCKET: i32 = 1;
const SO_MARK: i32 = 36;

const PROCEED: i32 = 1;
/// connect(2) fails with EPERM.
const REFUSE: i32 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

#[inline(always)]
pub(crate) fn run(ctx: &SockAddrContext, family: Family) -> i32 {
    let raw: *mut bpf_sock_addr = ctx.sock_addr;
    let Some(config) = CONFIG.get(0) else { return REFUSE };
    // SAFETY: the context is valid as long as the program runs; `sk` is never null in this hook,
    // and the verifier holds us to checking it.
    unsafe {
        if (*raw).type_ != SOCK_STREAM || (*raw).protocol != u32::from(proto::TCP) {
            return PROCEED;
        }
        if bpf_get_netns_cookie(raw.cast()) != config.netns_cookie {
            return PROCEED;
        }
        let sk = (*raw).__bindgen_anon_1.sk;
        if sk.is_null() {
            return REFUSE;
        }
        let current = (*sk).mark;
        if current & mark::MASK == mark::FROM_PROXY {
            return PROCEED;
        }
        let dst = match family {
            Family::V4 => v4_mapped((*raw).user_ip4.to_ne_bytes()),
            Family::V6 => {
                v6([(*raw).user_ip6[0], (*raw).user_ip6[1], (*raw).user_ip6[2], (*raw).user_ip6[3]])
            }
        };
        let dport = u16::from_be((*raw).user_port as u16);
        let wanted = if needs_proxy(dst, dport) { mark::HOST_TO_PROXY } else { 0 };
        let before = current & mark::MASK;
        if before == wanted || (wanted == 0 && before != mark::HOST_TO_PROXY) {
            return PROCEED;
        }
        let mut value = (current & !mark::MASK) | wanted;
        let set = bpf_setsockopt(raw.cast(), SOL_SOCKET, SO_MARK, (&raw mut value).cast(), 4);
        if set == 0 { PROCEED } else { REFUSE }
    }
}

#[inline(always)]
fn needs_proxy(dst: Addr, dport: u16) -> bool {
    let end = end_at(&dst);
    if end.endpoint == 0 {
        return false;
    }
    let flow = FlowKey { src: [0; 16], dst, sport: 0, dport, proto: proto::TCP, _pad: [0; 3] };
    let host = End { identity: identity::HOST, endpoint: 0 };
    judge(&KernelTables, &flow, host, end).verdict() == Verdict::Redirect
}
