//! Tektin's eBPF programs: one file a hook, thin around the decisions of `tektin_abi`.
#![no_std]
#![no_main]
// By value, keys and entries would be copied to the 512-octet stack first.
#![allow(clippy::needless_borrows_for_generic_args)]

mod event;
mod fragments;
mod from_outside;
mod from_workload;
mod handover;
mod host_connect;
mod host_lookup;
mod maps;
mod pipeline;
mod related;
mod skb;
mod steer;
mod tables;
mod to_workload;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier, sk_lookup},
    programs::{SkLookupContext, SockAddrContext, TcContext},
};

#[classifier]
fn from_workload(ctx: TcContext) -> i32 {
    from_workload::run(skb::Skb::new(&ctx))
}

#[classifier]
fn to_workload(ctx: TcContext) -> i32 {
    to_workload::run(skb::Skb::new(&ctx))
}

#[classifier]
fn from_outside(ctx: TcContext) -> i32 {
    from_outside::run(skb::Skb::new(&ctx))
}

#[sk_lookup]
fn host_lookup(ctx: SkLookupContext) -> u32 {
    host_lookup::run(&ctx)
}

#[cgroup_sock_addr(connect4)]
fn host_connect4(ctx: SockAddrContext) -> i32 {
    host_connect::run(&ctx, host_connect::Family::V4)
}

#[cgroup_sock_addr(connect6)]
fn host_connect6(ctx: SockAddrContext) -> i32 {
    host_connect::run(&ctx, host_connect::Family::V6)
}

/// The helpers that look up and assign sockets are for GPL-compatible programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in these programs panics; the linker drops this function.
    unsafe { core::hint::unreachable_unchecked() }
}
