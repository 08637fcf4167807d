//! A packet in the kernel.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock},
    helpers::{bpf_sk_fullsock, bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    programs::TcContext,
};
use tektin_abi::{
    DropReason,
    handover::Size,
    maps::mark,
    packet::{Bytes, Packet, glance::Frame},
};

#[derive(Clone, Copy)]
pub(crate) struct Skb {
    pub(crate) raw: *mut __sk_buff,
}

/// Whose socket sent a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// No local socket: the packet was forwarded.
    Nobody,
    /// A local socket that is not the proxy's.
    Other,
    /// A connection that is just being made or unmade, of whom cannot be seen.
    Partial,
    Proxy,
}

impl Skb {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { raw: ctx.as_ptr().cast() }
    }

    #[inline(always)]
    pub(crate) fn ether_type(self) -> u16 {
        // SAFETY: the context is valid as long as the program runs; so for all that follow.
        u16::from_be(unsafe { (*self.raw).protocol } as u16)
    }

    /// A tag that the kernel took off the frame.
    #[inline(always)]
    pub(crate) fn has_vlan(self) -> bool {
        // SAFETY: see `ether_type`.
        unsafe { (*self.raw).vlan_present != 0 }
    }

    /// The VLAN's number in that tag; 0: only a priority.
    #[inline(always)]
    pub(crate) fn vlan(self) -> Option<u32> {
        // SAFETY: see `ether_type`.
        self.has_vlan().then(|| unsafe { (*self.raw).vlan_tci } & 0xfff)
    }

    #[inline(always)]
    pub(crate) fn ifindex(self) -> u32 {
        // SAFETY: see `ether_type`.
        unsafe { (*self.raw).ifindex }
    }

    #[inline(always)]
    pub(crate) fn len(self) -> u32 {
        // SAFETY: see `ether_type`.
        unsafe { (*self.raw).len }
    }

    #[inline(always)]
    pub(crate) fn size(self) -> Size {
        // SAFETY: see `ether_type`.
        Size { frame: self.len(), segment: unsafe { (*self.raw).gso_size } }
    }

    /// The frame was addressed to this host, not seen in passing.
    #[inline(always)]
    pub(crate) fn is_for_host(self) -> bool {
        const PACKET_HOST: u32 = 0;
        // SAFETY: see `ether_type`.
        unsafe { (*self.raw).pkt_type == PACKET_HOST }
    }

    /// Reads the packet into `packet`.
    #[inline(always)]
    pub(crate) fn parse(self, packet: &mut Packet) -> Result<(), DropReason> {
        let ether = self.ether_type();
        // A tag that is still in the frame shifts all that is behind it.
        let untagged = self.words::<1>(10).is_some_and(|[word]| {
            let [_, _, high, low] = word.to_ne_bytes();
            u16::from_be_bytes([high, low]) == ether
        });
        if untagged && packet.glance(&self, ether) {
            return Ok(());
        }
        packet.parse(&self, ether)
    }

    #[inline(always)]
    pub(crate) fn source_mac(self) -> Option<[u8; 6]> {
        let [first, second] = self.words::<2>(6)?;
        let ([a, b, c, d], [e, f, _, _]) = (first.to_ne_bytes(), second.to_ne_bytes());
        Some([a, b, c, d, e, f])
    }

    /// Source MAC behind destination MAC.
    #[inline(always)]
    pub(crate) fn macs(self) -> Option<[u8; 12]> {
        let mut out = [0; 12];
        // SAFETY: the helper writes 12 octets or returns an error.
        let result = unsafe { bpf_skb_load_bytes(self.raw.cast(), 0, out.as_mut_ptr().cast(), 12) };
        (result == 0).then_some(out)
    }

    /// Replaces Tektin's bits of the mark; `value` may be 0.
    #[inline(always)]
    pub(crate) fn set_mark(self, value: u32) {
        // SAFETY: see `ether_type`.
        unsafe {
            let before = (*self.raw).mark;
            let after = (before & !mark::MASK) | value;
            if after != before {
                (*self.raw).mark = after;
            }
        }
    }

    #[inline(always)]
    pub(crate) fn owner(self) -> Owner {
        // SAFETY: see `ether_type`; the verifier checks each step for null.
        unsafe {
            let sk: *mut bpf_sock = (*self.raw).__bindgen_anon_2.sk;
            if sk.is_null() {
                return Owner::Nobody;
            }
            let full = bpf_sk_fullsock(sk);
            if full.is_null() {
                return Owner::Partial;
            }
            if (*full).mark & mark::MASK == mark::FROM_PROXY { Owner::Proxy } else { Owner::Other }
        }
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn words<const N: usize>(&self, offset: u32) -> Option<[u32; N]> {
        // SAFETY: see `ether_type`. The two bound what may be read, which the verifier checks.
        let (start, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        let at = start + offset as usize;
        if at + N * 4 > end {
            return None;
        }
        // SAFETY: within the frame. Its IP header is aligned to four octets or the machine does not
        // care: else the verifier refuses the program.
        Some(unsafe { (at as *const [u32; N]).read() })
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<const N: usize>(&self, offset: u32, out: &mut [u8; N]) -> Option<()> {
        const FROM_NETWORK_HEADER: u32 = 1;
        let (len, to) = (N as u32, out.as_mut_ptr().cast());
        // SAFETY: the helper writes N octets or returns an error.
        let result =
            unsafe { bpf_skb_load_bytes_relative(self.raw.cast(), offset, to, len, FROM_NETWORK_HEADER) };
        (result == 0).then_some(())
    }
}
