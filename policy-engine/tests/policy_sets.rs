//! What an agent asks of policies besides verdicts: prefixes, who is affected, prefixes for a map.

#![allow(clippy::unwrap_used)] // a test may panic, its helpers too

use std::collections::{BTreeMap, BTreeSet};

use policy_engine::{
    compile::{Placement, compile},
    compiled::{L4Verdict, Piece},
    documents::{Parsed, parse},
    identity::{Identity, IdentityTable, NamedPorts},
    labels::Labels,
    lookup::{LpmEntry, lpm_entries},
    model::{Document, Protocol},
    policy_set::{Options, PolicySet, document_prefixes, subjects_affected},
};

fn document(name: &str, app: &str, ingress: &str) -> Document {
    let text = format!(
        "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}}}
spec:
  endpointSelector: {{matchLabels: {{app: {app}}}}}
  ingress: {ingress}
"
    );
    match parse(&text).into_iter().next() {
        Some(Parsed::Policy(document)) => document,
        other => panic!("{other:?}"),
    }
}

fn workload(id: u32, app: &str) -> Identity {
    let own = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Identity::workload(id, Labels::workload("default", &own, &BTreeMap::new()), NamedPorts::default())
}

fn piece(first: u16, last: u16) -> Piece {
    let rule = document("a", "a", "[{}]").specs.remove(0).origin.into();
    Piece { protocol: Some(Protocol::Tcp), first, last, verdict: L4Verdict::Allow { rule } }
}

#[test]
fn a_set_knows_its_prefixes() {
    let mut set = PolicySet::new(Options::default());
    let with_hole = "[{fromCIDRSet: [{cidr: 10.1.2.3/8, except: [10.96.0.0/12]}]}]";
    assert!(set.upsert(document("a", "web", with_hole)).is_none());
    set.upsert(document("b", "web", "[{fromCIDR: [0.0.0.0/0, '2001:db8::/32']}]"));
    let prefixes = |set: &PolicySet| set.prefixes().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(prefixes(&set), ["0.0.0.0/0", "10.0.0.0/8", "10.96.0.0/12", "2001:db8::/32"]);
    let replaced = set.upsert(document("a", "web", "[{fromCIDR: [192.0.2.0/24]}]")).expect("was there");
    assert_eq!(document_prefixes(&replaced).len(), 2);
    assert_eq!(prefixes(&set), ["0.0.0.0/0", "192.0.2.0/24", "2001:db8::/32"]);
    let id = (*replaced.id).clone();
    assert!(set.document(&id).is_some());
    assert!(set.remove(&id).is_some() && set.remove(&id).is_none());
    assert_eq!(set.len(), 1);
}

#[test]
fn a_change_affects_whom_it_selects_or_selected() {
    let subjects = [workload(300, "web"), workload(301, "db"), workload(302, "other")];
    let host = Identity::reserved(1).unwrap();
    let (web, db) = (document("a", "web", "[{}]"), document("a", "db", "[{}]"));
    let affected = |before: Option<&Document>, after: Option<&Document>| {
        subjects_affected(before, after, subjects.iter().chain([&host]))
    };
    assert_eq!(affected(None, Some(&web)), [300]);
    assert_eq!(affected(Some(&web), Some(&db)), [300, 301]);
    assert_eq!(affected(Some(&db), None), [301]);
    assert!(affected(None, None).is_empty());
}

#[test]
fn an_identity_comes_and_goes() {
    let mut set = PolicySet::new(Options::default());
    set.upsert(document("a", "web", "[{fromEndpoints: [{matchLabels: {app: front}}]}]"));
    let subject = workload(300, "web");
    let mut compiled = compile(&set, &subject, &IdentityTable::with_reserved());
    let passes = |compiled: &policy_engine::compile::Compiled, id| {
        compiled.policy.ingress.as_ref().unwrap().lookup(id, Protocol::Tcp, 80).is_some()
    };
    let (ingress, egress) = compiled.add(&workload(301, "front"));
    assert!(matches!(ingress, Placement::New(class) if class > 0));
    assert_eq!(egress, Placement::NotEnforced);
    assert!(passes(&compiled, 301) && !passes(&compiled, 302));
    assert_eq!(
        compiled.add(&workload(302, "front")).0,
        match ingress {
            Placement::New(class) => Placement::Existing(class),
            other => other,
        }
    );
    assert!(passes(&compiled, 302));
    // The number is used again for other labels: nothing of the old class stays.
    assert_eq!(compiled.add(&workload(302, "back")).0, Placement::Existing(0));
    assert!(!passes(&compiled, 302));
    compiled.remove(301);
    assert!(!passes(&compiled, 301));
}

#[test]
fn an_identity_table_forgets() {
    let mut table = IdentityTable::with_reserved();
    let reserved = table.len();
    let set = document("a", "web", "[{fromCIDR: [10.0.0.0/8]}]");
    let policy_engine::model::Peers::OneOf(peers) = &set.specs[0].ingress[0].peers else { panic!() };
    table.insert(Identity::for_prefix(1 << 24, "10.1.0.0/16".parse().unwrap(), BTreeSet::new()));
    assert_eq!(table.matching(&peers[0]), [1 << 24]);
    // The same number for another prefix.
    table.insert(Identity::for_prefix(1 << 24, "11.0.0.0/8".parse().unwrap(), BTreeSet::new()));
    assert!(table.matching(&peers[0]).is_empty());
    assert_eq!(table.remove(1 << 24).map(|identity| identity.id), Some(1 << 24));
    assert!(table.remove(1 << 24).is_none());
    assert_eq!(table.len(), reserved);
}

#[test]
fn ranges_as_prefixes() {
    let entries = |first, last| {
        let list = lpm_entries(&piece(first, last));
        list.iter().map(|entry| (entry.port, entry.bits)).collect::<Vec<_>>()
    };
    assert_eq!(entries(80, 80), [(80, 16)]);
    assert_eq!(entries(0, 65535), [(0, 0)]);
    assert_eq!(entries(0, 1), [(0, 15)]);
    assert_eq!(entries(1, 2), [(1, 16), (2, 16)]);
    assert_eq!(entries(65535, 65535), [(65535, 16)]);
    assert_eq!(entries(1, 65535).len(), 16);
    assert_eq!(entries(1, 65534).len(), 30);
    let wide = Piece { protocol: None, ..piece(0, 65535) };
    assert_eq!(lpm_entries(&wide), [LpmEntry { protocol: None, port: 0, bits: 0 }]);
    for (first, last) in [(80, 444), (1000, 1000), (3, 9000), (32768, 65535), (5, 6)] {
        let list = entries(first, last);
        let covering = |port: u16| {
            let covers = |(start, bits): &&(u16, u8)| (start ^ port).leading_zeros() >= u32::from(*bits);
            list.iter().filter(covers).count()
        };
        for port in 0..=u16::MAX {
            assert_eq!(covering(port), usize::from((first..=last).contains(&port)), "{first}-{last}: {port}");
        }
    }
}

/// An identity that nobody has told the policy about yet gets what holds for everybody, no more.
#[test]
fn unknown_identities() {
    let subject = workload(300, "web");
    for (ingress, passes) in [
        ("[{fromEntities: [all]}]", true),
        ("[{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]", true),
        ("[{fromEntities: [world, cluster]}]", false),
        ("[{fromEndpoints: [{matchExpressions: [{key: app, operator: NotIn, values: [db]}]}]}]", false),
    ] {
        let mut set = PolicySet::new(Options::default());
        set.upsert(document("a", "web", ingress));
        let compiled = compile(&set, &subject, &IdentityTable::with_reserved());
        let policy = compiled.policy.ingress.expect("enforced");
        for unknown in [0, 40_000] {
            assert_eq!(policy.lookup(unknown, Protocol::Tcp, 80).is_some(), passes, "{ingress}");
        }
    }
}
