//! What stays when the loading process goes, and what a new one finds.

use std::{fs, path::Path};

use aya::programs::{SchedClassifier, TcAttachType};
use tektin_loader::{
    AttachError, AttachMode, Attachment, Datapath, LoadError, LoadOptions, Maps, abi::maps::drop, ipcache_key,
};

use super::{
    policy::{Reach, tcp, tcp_server},
    steering::{echo_connection, echoes},
    world::{ALLOW, Place, TCP, World, ip, make_link},
};

fn attached_programs(device: &str) -> usize {
    [TcAttachType::Ingress, TcAttachType::Egress]
        .map(|direction| SchedClassifier::query_tcx(device, direction).unwrap().1.len())
        .iter()
        .sum()
}

#[test]
fn enforcement_outlives_the_loader_and_the_next_one_takes_over() {
    let mut world = World::new();
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    tcp_server(&world, Place::B, Place::B.v4(), 81);
    let policy = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    let mut stream = echo_connection(&world, Place::B.v6(), 80);
    assert!(echoes(&mut stream));
    let ids = |datapath: &Datapath| datapath.programs().iter().map(|program| program.id).collect::<Vec<_>>();
    let before = ids(&world.datapath);
    let attached = world.datapath.attached().unwrap();
    assert_eq!(attached.len(), 5);

    // The old process's descriptors close only after the new one is there; then its own.
    let next = Datapath::open_or_load(&world.pin_dir, &LoadOptions::default()).unwrap();
    world.datapath = next;
    assert_ne!(ids(&world.datapath), before);
    assert!(echoes(&mut stream));
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Silence);
    for place in [Place::A, Place::B] {
        assert_eq!(world.datapath.attach_workload(place.device()).unwrap(), Attachment::Updated);
        assert_eq!(attached_programs(place.device()), 2, "exchanged, not added");
    }
    assert_eq!(world.datapath.attach_outside("tt-kup").unwrap(), Attachment::Updated);
    assert_eq!(world.datapath.attached().unwrap(), attached);
    assert!(echoes(&mut stream), "same maps, same connections");
    assert_eq!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Silence);
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Answered(_)));
}

#[test]
fn a_device_that_was_made_again_is_attached_again() {
    let mut world = World::new();
    let node = world.namespace(Place::Node);
    ip(&["-n", &node, "link", "del", Place::A.device()]);
    let missing = world.datapath.attach_workload(Place::A.device());
    assert!(matches!(missing, Err(AttachError::NoDevice { .. })), "{missing:?}");
    let id = node.strip_prefix("tt-k").unwrap().strip_suffix("-n").unwrap().to_owned();
    make_link(&id, Place::A);
    world.register(Place::A);
    assert_eq!(world.datapath.attach_workload(Place::A.device()).unwrap(), Attachment::Created);
    assert_eq!(attached_programs(Place::A.device()), 2);
    assert!(world.ping(Place::A, Place::B.v4(), 8));
}

#[test]
fn detaching_and_removing_leave_nothing() {
    let mut world = World::new();
    world.datapath.detach(Place::A.device()).unwrap();
    assert_eq!(attached_programs(Place::A.device()), 0);
    assert_eq!(attached_programs(Place::B.device()), 2);
    // Also of a device that is gone.
    let node = world.namespace(Place::Node);
    ip(&["-n", &node, "link", "del", Place::B.device()]);
    world.datapath.detach(Place::B.device()).unwrap();
    Datapath::remove_all(&world.pin_dir).unwrap();
    assert!(!Path::new(&world.pin_dir).exists());
    assert_eq!(attached_programs(Place::Outside.device()), 0);
    Datapath::remove_all(&world.pin_dir).unwrap();
}

#[test]
fn pins_of_another_layout_are_refused() {
    let world = World::new();
    let maps = world.pin_dir.join("v1/maps");
    let rename = |from: &str, to: &str| fs::rename(maps.join(from), maps.join(to)).unwrap();
    rename("config", "config_old");
    rename("metrics", "config");
    rename("config_old", "metrics");
    let refused = Datapath::open_or_load(&world.pin_dir, &LoadOptions::default());
    assert!(matches!(refused, Err(LoadError::OpenMap { .. } | LoadError::Layout { .. })));
    // Also where another one is gone, so that some are made anew.
    rename("metrics", "config_old");
    assert!(Datapath::open_or_load(&world.pin_dir, &LoadOptions::default()).is_err());
    rename("config", "metrics");
    rename("config_old", "config");
    Datapath::open_or_load(&world.pin_dir, &LoadOptions::default()).map(std::mem::drop).unwrap();
}

#[test]
fn clsact_serves_where_tcx_is_missing() {
    let options = LoadOptions { attach: AttachMode::Clsact, ..LoadOptions::default() };
    let mut world = World::with_options(&options);
    assert_eq!(attached_programs(Place::A.device()), 0);
    tcp_server(&world, Place::B, Place::B.v4(), 80);
    tcp_server(&world, Place::B, Place::B.v4(), 81);
    let policy = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    world.enforce(Place::B, policy, 0);
    for round in 0..2 {
        assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 80), Reach::Answered(_)), "round {round}");
        assert_eq!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Silence);
        world.datapath = Datapath::open_or_load(&world.pin_dir, &options).unwrap();
        assert_eq!(world.datapath.attach_workload(Place::A.device()).unwrap(), Attachment::Updated);
    }
    assert!(world.dropped(drop::DEFAULT_DENY) >= 2);
    world.datapath.detach(Place::A.device()).unwrap();
    world.datapath.detach(Place::B.device()).unwrap();
    assert!(matches!(tcp(&world, Place::A, Place::B.v4(), 81), Reach::Answered(_)));
}

#[test]
fn tables_list_fill_and_say_when_they_are_full() {
    let options = LoadOptions { map_max_entries: vec![("ipcache", 16)], ..LoadOptions::default() };
    let world = World::with_options(&options);
    let maps = Maps::open(&world.pin_dir).unwrap();
    let known = maps.ipcache.entries().unwrap();
    assert_eq!(known.len(), 9);
    let value = known[0].1;
    let mut full = None;
    for last in 1..100 {
        let key = ipcache_key([203, 0, 113, last].into(), 32);
        if let Err(error) = maps.ipcache.insert(&key, &value) {
            full = Some((last, error.to_string()));
            break;
        }
    }
    assert_eq!(full, Some((8, "map ipcache is full".to_owned())));
    let fill = maps.fill().unwrap();
    let ipcache = fill.iter().find(|fill| fill.name == "ipcache").unwrap();
    assert_eq!((ipcache.entries, ipcache.max), (16, 16));
    assert!(maps.ipcache.remove(&known[3].0).unwrap());
    assert!(!maps.ipcache.remove(&known[3].0).unwrap());
}

#[test]
fn policies_that_went_out_of_force_can_be_cleared() {
    let mut world = World::new();
    let old = world.policy(Place::A, &[(TCP, 80, ALLOW), (TCP, 81, ALLOW)]);
    let new = world.policy(Place::A, &[(TCP, 80, ALLOW)]);
    let maps = &world.datapath.maps;
    assert_eq!(maps.clear_policies(&[old].into()).unwrap(), 3);
    assert_eq!(maps.policy.entries().unwrap().len(), 1);
    assert_eq!(maps.peer_class.entries().unwrap()[0].0.policy, new);
}
