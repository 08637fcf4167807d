//! The programs on frames that no sender would make, through BPF_PROG_TEST_RUN.

use std::collections::BTreeSet;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, loaded_programs};
use tektin_loader::abi::maps::{EndpointValue, metric};

use super::{
    raw::{ethernet, ipv4, ipv6, udp, v4, v6},
    world::{Place, World},
};

/// What tc does with a packet (linux/pkt_cls.h).
const TC_ACT_SHOT: u32 = 2;
const TC_ACT_UNSPEC: u32 = u32::MAX;

fn program(world: &World, name: &str) -> SchedClassifier {
    let id = world.datapath.programs().iter().find(|program| program.name == name).unwrap().id;
    let info = loaded_programs().map(Result::unwrap).find(|info| info.id() == id).unwrap();
    SchedClassifier::from_program_info(info, name.to_owned().into()).unwrap()
}

fn run(program: &SchedClassifier, frame: &[u8]) -> u32 {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
    program.test_run(options).unwrap().return_value
}

/// A test run's packets are on the loopback device, ifindex 1.
fn put_a_on_loopback(world: &World) {
    let ifindex = nix::net::if_::if_nametoindex(Place::A.device()).unwrap();
    let endpoint: EndpointValue = world.datapath.maps.endpoints.get(&ifindex).unwrap().unwrap();
    world.datapath.maps.endpoints.insert(&1, &endpoint).unwrap();
}

/// A generator of its own, so that a failure is the same one tomorrow (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[test]
fn nothing_passes_from_a_device_that_nobody_registered() {
    let world = World::new();
    let frame = ethernet(Place::A.mac(), 0x0800, &ipv4(v4(Place::A), v4(Place::B), 17, 0, &udp(1, 2, b"")));
    for name in ["from_workload", "to_workload"] {
        assert_eq!(run(&program(&world, name), &frame), TC_ACT_SHOT);
    }
    put_a_on_loopback(&world);
    assert_eq!(run(&program(&world, "from_workload"), &frame), TC_ACT_UNSPEC);
}

#[test]
fn mutated_frames_never_pass_with_foreign_addresses() {
    let world = World::new();
    put_a_on_loopback(&world);
    let from_workload = program(&world, "from_workload");
    let (mac, datagram) = (Place::A.mac(), udp(1000, 53, b"payload"));
    let seeds = [
        ethernet(mac, 0x0800, &ipv4(v4(Place::A), v4(Place::B), 17, 0, &datagram)),
        ethernet(mac, 0x86dd, &ipv6(v6(Place::A), v6(Place::B), 17, 64, &datagram)),
    ];
    let (mut random, mut results) = (Random(1), BTreeSet::new());
    for round in 0..20_000u32 {
        let mut frame = seeds[round as usize % 2].clone();
        for _ in 0..=random.next() % 4 {
            let at = random.next() as usize % frame.len();
            frame[at] = random.next() as u8;
        }
        // The kernel takes nothing for a test run that is shorter than its network header.
        frame.truncate((random.next() as usize % 80).max(54));
        // The source may be anything but A's own: then nothing but a drop will do. ARP has its own rules.
        let (from, own) = match (frame[12], frame[13]) {
            (8, 0) => (26..30, v4(Place::A).octets().to_vec()),
            (0x86, 0xdd) => (22..38, v6(Place::A).octets().to_vec()),
            _ => (0..0, vec![0]),
        };
        let foreign = frame[6..12] != mac || frame.get(from) != Some(&own[..]);
        let result = run(&from_workload, &frame);
        if foreign {
            assert_eq!(result, TC_ACT_SHOT, "{frame:02x?}");
        }
        results.insert(result);
    }
    assert_eq!(results, [TC_ACT_SHOT, TC_ACT_UNSPEC].into(), "some frames stay good, no other action");
}

#[test]
fn an_established_flow_costs_little() {
    let world = World::new();
    put_a_on_loopback(&world);
    let program = program(&world, "from_workload");
    let (mac, datagram) = (Place::A.mac(), udp(1, 2, b""));
    for (name, frame) in [
        ("IPv4", ethernet(mac, 0x0800, &ipv4(v4(Place::A), v4(Place::B), 17, 0, &datagram))),
        ("IPv6", ethernet(mac, 0x86dd, &ipv6(v6(Place::A), v6(Place::B), 17, 64, &datagram))),
    ] {
        let result = loop {
            let data_in = Some(&frame[..]);
            let options = TestRunOptions { data_in, repeat: 20_000, ..TestRunOptions::default() };
            match program.test_run(options) {
                Ok(result) => break result,
                Err(error) => assert!(error.to_string().contains("test_run"), "{error}"),
            }
        };
        assert_eq!(result.return_value, TC_ACT_UNSPEC);
        println!("{name}: {} ns a packet", result.duration.as_nanos());
        // One packet made the entry; no other wrote an event or an entry.
        assert_eq!(world.metric(metric::EVENT_LOST), 0);
    }
    assert_eq!(world.metric(metric::NEW_FLOWS), 2);
}
