//! Identities: the numbers for label sets (and named ports) of workloads, and for the prefixes that
//! policies name. A number given back is the last to be given again: maps, connections and records
//! may still carry it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use ipnet::IpNet;
use policy_engine::labels::{LabelKey, Labels, Source};
use serde::{Deserialize, Serialize};
use tektin_abi::maps::identity;

use super::{journal::Journal, state_file::StateFileError};
use crate::api::PortProtocol;

/// The file's name in the state directory.
pub const FILE: &str = "identities.log";

/// Named ports of a workload, names in lower case.
pub type NamedPorts = BTreeMap<String, PortProtocol>;

/// What makes two workloads the same for policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkloadKey {
    pub labels: Labels,
    pub named_ports: NamedPorts,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("all workload identities are in use (256 to 65535)")]
    WorkloadsExhausted,
    #[error("all identities for prefixes are in use (2^24 of them)")]
    PrefixesExhausted,
}

#[derive(Debug)]
pub struct Identities {
    journal: Journal,
    /// Not written yet.
    lines: Vec<Line>,
    workloads: BTreeMap<u32, WorkloadKey>,
    workload_number: BTreeMap<WorkloadKey, u32>,
    prefixes: BTreeMap<u32, IpNet>,
    prefix_number: BTreeMap<IpNet, u32>,
    last_workload: u32,
    last_prefix: u32,
    /// Numbers that the kernel's tables of another run carry and that nobody remembers, or otherwise:
    /// taken, until those tables are this run's.
    reserved: BTreeSet<u32>,
}

/// A number in the kernel's tables of an earlier run, with what it stands for there.
#[derive(Clone, Debug)]
pub enum Carried {
    Workload(u32, WorkloadKey),
    Prefix(u32, IpNet),
    /// The table does not say.
    Unknown(u32),
}

/// A line of the file. The last one that gave a number tells where to go on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Workload {
        id: u32,
        labels: Vec<String>,
        #[serde(default, skip_serializing_if = "NamedPorts::is_empty")]
        named_ports: NamedPorts,
    },
    Prefix {
        id: u32,
        net: IpNet,
    },
    Free(u32),
    Last {
        workload: u32,
        prefix: u32,
    },
}

impl Identities {
    /// Reads the numbers of an earlier run; `path` need not exist yet.
    pub fn load(path: PathBuf) -> Result<Self, StateFileError> {
        let (journal, lines) = Journal::open(path)?;
        let mut loaded = Self {
            journal,
            lines: Vec::new(),
            workloads: BTreeMap::new(),
            workload_number: BTreeMap::new(),
            prefixes: BTreeMap::new(),
            prefix_number: BTreeMap::new(),
            last_workload: identity::CLUSTER_MAX,
            last_prefix: 0,
            reserved: BTreeSet::new(),
        };
        for line in lines {
            match line {
                Line::Workload { id, labels, named_ports } => {
                    let labels = labels.iter().map(|label| stored_label(label)).collect();
                    let key = WorkloadKey { labels: Labels(labels), named_ports };
                    loaded.workload_number.insert(key.clone(), id);
                    loaded.workloads.insert(id, key);
                    loaded.last_workload = id;
                }
                Line::Prefix { id, net } => {
                    loaded.prefix_number.insert(net, id);
                    loaded.prefixes.insert(id, net);
                    loaded.last_prefix = id;
                }
                Line::Free(id) => loaded.free(id),
                Line::Last { workload, prefix } => {
                    (loaded.last_workload, loaded.last_prefix) = (workload, prefix);
                }
            }
        }
        Ok(loaded)
    }

    /// Writes down what has changed.
    pub fn save(&mut self) -> Result<(), StateFileError> {
        self.journal.append(&self.lines)?;
        self.lines.clear();
        if self.journal.is_old(self.workloads.len() + self.prefixes.len()) {
            let workloads = self.workloads.iter().map(|(id, key)| workload_line(*id, key));
            let prefixes = self.prefixes.iter().map(|(id, net)| Line::Prefix { id: *id, net: *net });
            let last = Line::Last { workload: self.last_workload, prefix: self.last_prefix };
            let lines: Vec<Line> = workloads.chain(prefixes).chain([last]).collect();
            self.journal.rewrite(&lines)?;
        }
        Ok(())
    }

    /// The number of a label set; a new one gets one.
    pub fn workload(&mut self, key: &WorkloadKey) -> Result<u32, IdentityError> {
        if let Some(number) = self.workload_number.get(key) {
            return Ok(*number);
        }
        let number = next_free(identity::CLUSTER_MIN, identity::CLUSTER_MAX, self.last_workload, |number| {
            self.workloads.contains_key(&number) || self.reserved.contains(&number)
        })
        .ok_or(IdentityError::WorkloadsExhausted)?;
        self.last_workload = number;
        self.lines.push(workload_line(number, key));
        self.workloads.insert(number, key.clone());
        self.workload_number.insert(key.clone(), number);
        Ok(number)
    }

    /// The number of a prefix. 0.0.0.0/0 and ::/0 are the world, which has fixed ones.
    pub fn prefix(&mut self, prefix: IpNet) -> Result<u32, IdentityError> {
        let prefix = prefix.trunc();
        if prefix.prefix_len() == 0 {
            return Ok(if prefix.addr().is_ipv4() { identity::WORLD_IPV4 } else { identity::WORLD_IPV6 });
        }
        if let Some(number) = self.prefix_number.get(&prefix) {
            return Ok(*number);
        }
        let first = identity::LOCAL_SCOPE | 1;
        let last = identity::LOCAL_SCOPE | 0x00ff_ffff;
        let in_use = |number| self.prefixes.contains_key(&number) || self.reserved.contains(&number);
        let number =
            next_free(first, last, self.last_prefix, in_use).ok_or(IdentityError::PrefixesExhausted)?;
        self.last_prefix = number;
        self.lines.push(Line::Prefix { id: number, net: prefix });
        self.prefixes.insert(number, prefix);
        self.prefix_number.insert(prefix, number);
        Ok(number)
    }

    /// Keeps a number of an earlier run from others for as long as packets may carry it. The file may have
    /// been lost or be an old one: where it says something else of that number, it is forgotten.
    pub fn reserve(&mut self, carried: &Carried) {
        let (number, remembered) = match carried {
            Carried::Workload(number, key) => (*number, self.workloads.get(number) == Some(key)),
            Carried::Prefix(number, prefix) => (*number, self.prefixes.get(number) == Some(prefix)),
            Carried::Unknown(number) => (*number, self.is_known(*number)),
        };
        if remembered || number < identity::CLUSTER_MIN {
            return;
        }
        if self.is_known(number) {
            self.release(number);
        }
        self.reserved.insert(number);
    }

    /// From now on the reserved numbers may be given. Returns them.
    pub fn end_reservation(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.reserved)
    }

    fn is_known(&self, number: u32) -> bool {
        self.workloads.contains_key(&number) || self.prefixes.contains_key(&number)
    }

    /// Gives a number back that nobody has any more.
    pub fn release(&mut self, number: u32) {
        self.free(number);
        self.lines.push(Line::Free(number));
    }

    fn free(&mut self, number: u32) {
        if let Some(key) = self.workloads.remove(&number) {
            self.workload_number.remove(&key);
        }
        if let Some(prefix) = self.prefixes.remove(&number) {
            self.prefix_number.remove(&prefix);
        }
    }

    /// Numbers for which there is no use, among those that an earlier run has left.
    pub fn unused(&self, is_used: impl Fn(u32) -> bool) -> Vec<u32> {
        let all = self.workloads.keys().chain(self.prefixes.keys()).copied();
        all.filter(|number| !is_used(*number)).collect()
    }

    /// The number of a label set that has one.
    pub fn workload_number(&self, key: &WorkloadKey) -> Option<u32> {
        self.workload_number.get(key).copied()
    }

    pub fn workload_key(&self, number: u32) -> Option<&WorkloadKey> {
        self.workloads.get(&number)
    }

    pub fn prefix_of(&self, number: u32) -> Option<IpNet> {
        self.prefixes.get(&number).copied()
    }
}

fn workload_line(id: u32, key: &WorkloadKey) -> Line {
    Line::Workload { id, labels: label_texts(&key.labels), named_ports: key.named_ports.clone() }
}

fn next_free(first: u32, last: u32, previous: u32, in_use: impl Fn(u32) -> bool) -> Option<u32> {
    let start = if (first..last).contains(&previous) { previous + 1 } else { first };
    (start..=last).chain(first..start).find(|number| !in_use(*number))
}

/// `source:key=value` of each label, sorted.
pub fn label_texts(labels: &Labels) -> Vec<String> {
    let mut texts: Vec<String> = labels.0.iter().map(|(key, value)| label_text(key, value)).collect();
    texts.sort();
    texts
}

fn label_text(key: &LabelKey, value: &str) -> String {
    if value.is_empty() {
        format!("{}:{}", key.source, key.key)
    } else {
        format!("{}:{}={value}", key.source, key.key)
    }
}

/// The inverse of [`label_text`]; keys never contain `=`, sources neither `:` nor `=`.
fn stored_label(text: &str) -> (LabelKey, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let (source, key) = key.split_once(':').unwrap_or(("k8s", key));
    (LabelKey { source: Source::from_name(source), key: key.to_owned() }, value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(labels: &[&str]) -> WorkloadKey {
        WorkloadKey {
            labels: Labels(labels.iter().map(|label| stored_label(label)).collect()),
            named_ports: NamedPorts::new(),
        }
    }

    fn empty(directory: &tempfile::TempDir) -> Identities {
        Identities::load(directory.path().join(FILE)).unwrap()
    }

    #[test]
    fn equal_labels_share_a_number_and_named_ports_tell_apart() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        let web = key(&["k8s:app=web", "k8s:io.kubernetes.pod.namespace=default"]);
        assert_eq!(identities.workload(&web).unwrap(), 256);
        assert_eq!(identities.workload(&web).unwrap(), 256);
        let mut with_port = web.clone();
        with_port.named_ports.insert("http".to_owned(), "80/TCP".parse().unwrap());
        assert_eq!(identities.workload(&with_port).unwrap(), 257);
        assert_eq!(identities.workload(&key(&["k8s:app=db"])).unwrap(), 258);
    }

    #[test]
    fn a_number_given_back_is_not_given_again_soon_nor_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        assert_eq!(identities.workload(&key(&["k8s:a=1"])).unwrap(), 256);
        identities.release(256);
        assert_eq!(identities.workload_key(256), None);
        assert_eq!(identities.workload(&key(&["k8s:b=1"])).unwrap(), 257);
        identities.save().unwrap();
        let mut identities = empty(&directory);
        assert_eq!(identities.workload(&key(&["k8s:b=1"])).unwrap(), 257);
        assert_eq!(identities.workload(&key(&["k8s:c=1"])).unwrap(), 258);
    }

    #[test]
    fn numbers_that_packets_still_carry_are_not_given_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        for number in [1, 256, 257, (1 << 24) | 1] {
            identities.reserve(&Carried::Unknown(number));
        }
        assert_eq!(identities.workload(&key(&["k8s:a=1"])).unwrap(), 258);
        assert_eq!(identities.prefix("10.0.0.0/8".parse().unwrap()).unwrap(), (1 << 24) | 2);
        assert_eq!(identities.end_reservation(), BTreeSet::from([256, 257, (1 << 24) | 1]));
    }

    #[test]
    fn what_the_file_says_otherwise_than_packets_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        let (web, db) = (key(&["k8s:app=web"]), key(&["k8s:app=db"]));
        let [ten, eleven] = ["10.0.0.0/8", "11.0.0.0/8"].map(|net| net.parse::<IpNet>().unwrap());
        assert_eq!((identities.workload(&web).unwrap(), identities.workload(&db).unwrap()), (256, 257));
        let (first, second) = (identities.prefix(ten).unwrap(), identities.prefix(eleven).unwrap());
        let carried = [
            Carried::Unknown(256),
            Carried::Workload(256, db.clone()),
            Carried::Workload(257, db.clone()),
            Carried::Prefix(first, ten),
            Carried::Prefix(second, ten),
        ];
        carried.iter().for_each(|carried| identities.reserve(carried));
        assert_eq!((identities.workload(&web).unwrap(), identities.workload(&db).unwrap()), (258, 257));
        assert_eq!(identities.prefix(ten).unwrap(), first);
        assert_eq!(identities.prefix(eleven).unwrap(), second + 1);
        identities.save().unwrap();
        let identities = empty(&directory);
        assert_eq!(identities.workload_number(&web), Some(258));
        assert_eq!((identities.workload_key(256), identities.prefix_of(second)), (None, None));
    }

    #[test]
    fn labels_and_ports_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        let mut web = key(&["k8s:app=web=1", "container:tier", "k8s:x="]);
        web.named_ports.insert("dns".to_owned(), "53/UDP".parse().unwrap());
        let number = identities.workload(&web).unwrap();
        let prefix = identities.prefix("10.0.0.0/8".parse().unwrap()).unwrap();
        identities.save().unwrap();
        let identities = empty(&directory);
        assert_eq!(identities.workload_key(number), Some(&web));
        assert_eq!(identities.prefix_of(prefix), Some("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn prefixes_get_local_numbers_and_the_world_keeps_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut identities = empty(&directory);
        assert_eq!(identities.prefix("0.0.0.0/0".parse().unwrap()).unwrap(), identity::WORLD_IPV4);
        assert_eq!(identities.prefix("::/0".parse().unwrap()).unwrap(), identity::WORLD_IPV6);
        assert_eq!(identities.prefix("10.1.2.3/8".parse().unwrap()).unwrap(), (1 << 24) | 1);
        assert_eq!(identities.prefix("10.0.0.0/8".parse().unwrap()).unwrap(), (1 << 24) | 1);
        assert_eq!(identities.prefix("fd00::/8".parse().unwrap()).unwrap(), (1 << 24) | 2);
    }

    #[test]
    fn numbers_wrap_around_and_end() {
        assert_eq!(next_free(1, 3, 2, |_| false), Some(3));
        assert_eq!(next_free(1, 3, 3, |_| false), Some(1));
        assert_eq!(next_free(1, 3, 3, |number| number == 1), Some(2));
        assert_eq!(next_free(1, 3, 1, |_| true), None);
    }
}
