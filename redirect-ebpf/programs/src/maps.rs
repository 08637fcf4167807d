//! The maps, as `tektin_abi::maps` describes them, and one per-CPU scratch area that keeps large
//! values off the 512-octet stack.

use aya_ebpf::{
    bindings::{bpf_map_def, bpf_map_type},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use tektin_abi::{maps::*, packet::Packet};

/// Values are allocated when written: these maps are sized for the worst case.
const NO_PREALLOC: u32 = 1;

#[map(name = "ipcache")]
pub(crate) static IPCACHE: LpmTrie<Addr, IpcacheValue> = LpmTrie::pinned(IPCACHE_MAX, NO_PREALLOC);
#[map(name = "endpoints")]
pub(crate) static ENDPOINTS: HashMap<u32, EndpointValue> = HashMap::pinned(ENDPOINTS_MAX, NO_PREALLOC);
#[map(name = "devices")]
pub(crate) static DEVICES: Array<DeviceValue> = Array::pinned(ENDPOINTS_MAX, 0);
#[map(name = "policy_root")]
pub(crate) static POLICY_ROOT: Array<PolicyRoot> = Array::pinned(ENDPOINTS_MAX, 0);
#[map(name = "peer_class")]
pub(crate) static PEER_CLASS: HashMap<PeerClassKey, PeerClass> = HashMap::pinned(PEER_CLASS_MAX, NO_PREALLOC);
#[map(name = "policy")]
pub(crate) static POLICY: LpmTrie<[u8; 12], PolicyValue> = LpmTrie::pinned(POLICY_MAX, NO_PREALLOC);
#[map(name = "ct")]
pub(crate) static CT: LruHashMap<FlowKey, CtValue> = LruHashMap::pinned(CT_MAX, 0);
#[map(name = "fragments")]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentValue> = LruHashMap::pinned(FRAGMENTS_MAX, 0);
#[map(name = "throttle")]
pub(crate) static THROTTLE: LruHashMap<ThrottleKey, u64> = LruHashMap::pinned(THROTTLE_MAX, 0);
#[map(name = "steered")]
pub(crate) static STEERED: LruHashMap<FlowKey, SteeredValue> = LruHashMap::pinned(STEERED_MAX, 0);
/// Written out, because values of 8 octets (aya's have 4) let userspace see whether a slot is empty.
#[unsafe(link_section = "maps")]
#[unsafe(export_name = "listeners")]
pub(crate) static LISTENERS: SockMap = SockMap(bpf_map_def {
    type_: bpf_map_type::BPF_MAP_TYPE_SOCKMAP,
    key_size: 4,
    value_size: 8,
    max_entries: LISTENERS_MAX,
    map_flags: 0,
    id: 0,
    pinning: PIN_BY_NAME,
});
const PIN_BY_NAME: u32 = 1;

#[repr(transparent)]
pub(crate) struct SockMap(bpf_map_def);
// SAFETY: the definition is never written; the kernel replaces it by the map.
unsafe impl Sync for SockMap {}
#[map(name = "verdicts")]
pub(crate) static VERDICTS: LruHashMap<VerdictKey, VerdictValue> = LruHashMap::pinned(VERDICTS_MAX, 0);
#[map(name = "config")]
pub(crate) static CONFIG: Array<Config> = Array::pinned(1, 0);
#[map(name = "events")]
pub(crate) static EVENTS: RingBuf = RingBuf::pinned(EVENTS_SIZE, 0);
#[map(name = "metrics")]
pub(crate) static METRICS: PerCpuArray<u64> = PerCpuArray::pinned(METRICS_MAX, 0);
#[map(name = "scratch")]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// What one packet needs while it is looked at.
///
/// tc programs run with softirqs off and never nest, so one area a CPU serves them all. The
/// programs that may run inside a tc program, or with softirqs on, do not touch it.
#[repr(C, align(8))]
pub(crate) struct Scratch {
    pub(crate) packet: Packet,
    /// The connection entry being made, or a copy of the one that decided.
    pub(crate) entry: CtValue,
    pub(crate) throttle: ThrottleKey,
}

#[inline(always)]
pub(crate) fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: the area is this CPU's and no other program that uses it can run meanwhile; every bit
    // pattern that was ever written there is a valid Scratch, and zero is one.
    SCRATCH.get_ptr_mut(0).map(|area| unsafe { &mut *area })
}

#[inline(always)]
pub(crate) fn count(metric: u32) {
    if let Some(counter) = METRICS.get_ptr_mut(metric) {
        // SAFETY: a per-CPU counter, see `scratch`; programs outside tc may lose a count, no more.
        unsafe { *counter += 1 };
    }
}

/// CLOCK_MONOTONIC, ns; as of the last timer tick where the kernel tells that, which is cheaper.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: `KERNEL` is read-only data; the helpers have no arguments and no effect.
    unsafe {
        if core::ptr::read_volatile(&raw const KERNEL.coarse_clock) != 0 {
            return aya_ebpf::helpers::bpf_ktime_get_coarse_ns();
        }
    }
    precise_now()
}

/// CLOCK_MONOTONIC, ns, for what people read.
#[inline(always)]
pub(crate) fn precise_now() -> u64 {
    // SAFETY: no arguments, no effect.
    unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() }
}

/// What this kernel offers. The loader writes it, so that the verifier never sees a call that is
/// unknown there.
#[unsafe(no_mangle)]
pub(crate) static KERNEL: KernelFeatures = KernelFeatures { redirect_peer: 0, coarse_clock: 0 };
