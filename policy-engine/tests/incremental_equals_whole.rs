//! Following changes one by one ends where compiling anew ends, and both say what the naive evaluator
//! says: over random sequences of changes. Whoever keeps a copy by the changes told has the same too.

use std::collections::{BTreeMap, BTreeSet};

use policy_engine::{
    compile::{DirectionChange, Patch, SubjectChange, compile},
    compiled::{Class, ClassId, DirectionPolicy},
    direction::Direction,
    engine::Engine,
    identity::{Identity, NamedPorts},
    labels::Labels,
    model::{Document, Protocol, Spec},
    naive::{Decision, Flow, evaluate},
    policy_set::{DocumentChange, Options},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

#[path = "random/policies.rs"]
#[allow(dead_code)] // the other test that includes it judges requests, too
mod policies;
#[path = "random/world.rs"]
#[allow(dead_code)]
mod world;

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp, Protocol::Icmp, Protocol::Icmpv6];
const PORTS: [u16; 9] = [0, 8, 53, 79, 80, 81, 90, 8080, 65535];

#[derive(Clone, Debug)]
enum Step {
    /// Document by number; `None`: deleted.
    Document(usize, Option<Vec<Spec>>),
    /// One rule more, one less, of the first spec.
    Grow(usize, Spec),
    Shrink(usize),
    Workload(u32, Option<(Labels, NamedPorts)>),
    Prefix(u32, Option<&'static str>),
    Subject(u32, Policed),
    /// What was told could not be put in force, and by then the document has changed.
    Fail(usize),
    /// What was told is in force.
    Install,
}

#[derive(Clone, Copy, Debug)]
enum Policed {
    Yes,
    No,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0..3usize;
    let workload = option::weighted(0.7, world::workload());
    let prefix = option::weighted(0.7, select(&world::PREFIXES[1..]));
    prop_oneof![
        3 => (number.clone(), option::weighted(0.8, vec(policies::spec(), 1..3)))
            .prop_map(|(number, specs)| Step::Document(number, specs)),
        3 => (number.clone(), policies::spec()).prop_map(|(number, spec)| Step::Grow(number, spec)),
        2 => number.prop_map(Step::Shrink),
        4 => (0..6u32, workload).prop_map(|(number, workload)| Step::Workload(300 + number, workload)),
        3 => (0..4u32, prefix).prop_map(|(number, prefix)| Step::Prefix((1 << 24) + number, prefix)),
        3 => (0..6u32, select(&[Policed::Yes, Policed::Yes, Policed::No][..]))
            .prop_map(|(number, policed)| Step::Subject(300 + number, policed)),
        1 => Just(Step::Subject(1, Policed::Yes)),
        1 => (0..3usize).prop_map(Step::Fail),
        3 => Just(Step::Install),
    ]
}

/// What a map holds of one direction of a subject, kept up to date by the changes told alone.
#[derive(Clone, Debug, Default, PartialEq)]
struct Copy {
    class_of: BTreeMap<u32, ClassId>,
    classes: BTreeMap<ClassId, Class>,
}

#[derive(Default)]
struct Copies(BTreeMap<(u32, Direction), Copy>);

impl Copies {
    fn install(&mut self, engine: &Engine, changes: &BTreeMap<u32, SubjectChange>) {
        for (subject, change) in changes {
            let policy = engine.subject(*subject).map(|compiled| &compiled.policy);
            let sides = [
                (Direction::Ingress, &change.ingress, policy.and_then(|policy| policy.ingress.as_ref())),
                (Direction::Egress, &change.egress, policy.and_then(|policy| policy.egress.as_ref())),
            ];
            for (direction, change, policy) in sides {
                self.install_one((*subject, direction), change, policy);
            }
        }
    }

    fn install_one(
        &mut self,
        key: (u32, Direction),
        change: &DirectionChange,
        policy: Option<&DirectionPolicy>,
    ) {
        match change {
            DirectionChange::Nothing => {}
            DirectionChange::Anew { before } => {
                // All that is there can be found in what is said to have been there.
                let copy = self.0.remove(&key).unwrap_or_default();
                let (known, classes) = before.as_ref().map_or_else(Default::default, |before| {
                    let members = before.policy.class_of.keys().chain(before.patch.moved.keys());
                    let classes = before.policy.classes.keys().chain(before.patch.dropped.keys());
                    (members.copied().collect::<BTreeSet<_>>(), classes.copied().collect::<BTreeSet<_>>())
                });
                assert!(copy.class_of.keys().all(|identity| known.contains(identity)), "{key:?}");
                assert!(copy.classes.keys().all(|class| classes.contains(class)), "{key:?}");
                if let Some(policy) = policy {
                    let copy = Copy { class_of: policy.class_of.clone(), classes: policy.classes.clone() };
                    self.0.insert(key, copy);
                }
            }
            DirectionChange::Patch(Patch { moved, made, dropped, renamed: _ }) => {
                let copy = self.0.get_mut(&key).expect("a patch has something to patch");
                let policy = policy.expect("a policy that was patched is there");
                for class in made {
                    if let Some(content) = policy.classes.get(class) {
                        assert!(copy.classes.insert(*class, content.clone()).is_none(), "numbers are new");
                    }
                }
                for (identity, (before, now)) in moved {
                    assert_eq!(copy.class_of.get(identity).copied().unwrap_or(0), *before, "{identity}");
                    match now {
                        0 => drop(copy.class_of.remove(identity)),
                        class => drop(copy.class_of.insert(*identity, *class)),
                    }
                }
                for (class, content) in dropped {
                    if let Some(known) = copy.classes.remove(class) {
                        assert_eq!(known, *content);
                    }
                }
            }
        }
        let copy = self.0.get(&key);
        assert_eq!(copy.map(|copy| &copy.class_of), policy.map(|policy| &policy.class_of), "{key:?}");
        assert_eq!(copy.map(|copy| &copy.classes), policy.map(|policy| &policy.classes), "{key:?}");
    }
}

fn take(engine: &mut Engine, document: Option<Document>, number: usize) {
    let id = policies::document(&format!("p{number}"), Vec::new()).id;
    let before = engine.policies().document(&id).cloned();
    if let Some(change) = DocumentChange::new(before, document.map(Into::into)) {
        engine.follow(&change);
    }
}

fn make(engine: &mut Engine, copies: &mut Copies, step: Step) {
    let name = |number: usize| format!("p{number}");
    let specs_of = |engine: &Engine, number| {
        let id = policies::document(&name(number), Vec::new()).id;
        engine.policies().document(&id).map(|document| document.specs.clone())
    };
    match step {
        Step::Document(number, specs) => {
            let document = specs.map(|specs| policies::document(&name(number), specs));
            take(engine, document, number);
        }
        Step::Grow(number, spec) => {
            let Some(mut specs) = specs_of(engine, number) else { return };
            specs[0].ingress.extend(spec.ingress);
            specs[0].egress_deny.extend(spec.egress_deny);
            specs[0].egress.extend(spec.egress);
            take(engine, Some(policies::document(&name(number), specs)), number);
        }
        Step::Shrink(number) => {
            let Some(mut specs) = specs_of(engine, number) else { return };
            specs[0].ingress.pop();
            specs[0].egress.pop();
            take(engine, Some(policies::document(&name(number), specs)), number);
        }
        Step::Workload(id, workload) => {
            engine.remove_subject(id);
            engine.remove_identity(id);
            if let Some((labels, ports)) = workload {
                engine.add_identity(Identity::workload(id, labels, ports));
            }
        }
        Step::Prefix(id, prefix) => {
            engine.remove_identity(id);
            if let Some(prefix) = prefix {
                let prefix = prefix.parse().expect("a net");
                engine.add_identity(Identity::for_prefix(id, prefix, BTreeSet::new()));
            }
        }
        Step::Subject(id, Policed::Yes) => engine.add_subject(id),
        Step::Subject(id, Policed::No) => engine.remove_subject(id),
        Step::Fail(number) => {
            let changes = engine.take_changes();
            make(engine, copies, Step::Shrink(number));
            engine.give_back(changes);
        }
        Step::Install => {
            let changes = engine.take_changes();
            copies.install(engine, &changes);
        }
    }
}

fn decision(policy: Option<&DirectionPolicy>, peer: u32, protocol: Protocol, port: u16) -> Decision {
    match policy {
        None => Decision::NotEnforced,
        Some(policy) => match policy.lookup(peer, protocol, port) {
            None => Decision::DefaultDeny(policy.default_deny.values().cloned().collect()),
            Some(piece) => Decision::Rule(piece.verdict.clone()),
        },
    }
}

/// Returns how many flows were judged.
fn check(engine: &Engine) -> Result<usize, TestCaseError> {
    let mut judged = 0;
    for (id, compiled) in engine.subjects() {
        let subject = engine.identities().identity(id).expect("a subject is known");
        let whole = compile(engine.policies(), subject, engine.identities());
        for direction in [Direction::Ingress, Direction::Egress] {
            let (followed, whole) = match direction {
                Direction::Ingress => (&compiled.policy.ingress, &whole.policy.ingress),
                Direction::Egress => (&compiled.policy.egress, &whole.policy.egress),
            };
            let classes = |policy: &Option<DirectionPolicy>| policy.as_ref().map(|p| p.classes.len());
            prop_assert_eq!(classes(followed), classes(whole), "no class twice, none left over");
            for peer in engine.identities().iter() {
                for (protocol, port) in PROTOCOLS.into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                    let flow = Flow { subject, direction, peer, protocol, port };
                    let naive = evaluate(engine.policies(), &flow);
                    let decided = decision(followed.as_ref(), peer.id, protocol, port);
                    prop_assert_eq!(&naive, &decided, "followed: {:?}", flow);
                    let decided = decision(whole.as_ref(), peer.id, protocol, port);
                    prop_assert_eq!(&naive, &decided, "compiled anew: {:?}", flow);
                    judged += 1;
                }
            }
        }
    }
    Ok(judged)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn following_changes(steps in vec(step(), 1..28)) {
        let mut engine = Engine::new(Options::default());
        let mut copies = Copies::default();
        for id in 300..304 {
            engine.add_identity(Identity::workload(id, Labels::default(), NamedPorts::default()));
            engine.add_subject(id);
        }
        for step in steps {
            make(&mut engine, &mut copies, step);
            check(&engine)?;
        }
        make(&mut engine, &mut copies, Step::Install);
        for (key, _) in copies.0 {
            prop_assert!(engine.subject(key.0).is_some(), "a subject that is gone has left nothing");
        }
    }
}
