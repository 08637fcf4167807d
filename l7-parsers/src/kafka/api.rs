//! What each request names, and how it is answered where a name is denied, as Kafka 4.3's brokers do
//! with ACLs (`KafkaApis`, `ControllerApis`). A request that is not in this table is not offered to
//! clients and not forwarded; those that only brokers send each other are not here.

use super::{
    rules::{Resource, Role},
    schema::{self, Layout, Versions},
    value::Value,
};

pub(super) const PRODUCE: i16 = 0;
pub(super) const FETCH: i16 = 1;
pub(super) const LIST_OFFSETS: i16 = 2;
pub(super) const METADATA: i16 = 3;
pub(super) const OFFSET_FETCH: i16 = 9;
pub(super) const JOIN_GROUP: i16 = 11;
pub(super) const SASL_HANDSHAKE: i16 = 17;
pub(super) const API_VERSIONS: i16 = 18;
pub(super) const CREATE_TOPICS: i16 = 19;
pub(super) const INIT_PRODUCER_ID: i16 = 22;
pub(super) const ADD_PARTITIONS_TO_TXN: i16 = 24;
pub(super) const ALTER_REPLICA_LOG_DIRS: i16 = 34;
pub(super) const ALTER_USER_SCRAM_CREDENTIALS: i16 = 51;
pub(super) const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
pub(super) const DESCRIBE_TOPIC_PARTITIONS: i16 = 75;
pub(super) const SHARE_FETCH: i16 = 78;
pub(super) const SHARE_ACKNOWLEDGE: i16 = 79;

/// Error codes of the protocol.
pub(super) mod error {
    pub(in crate::kafka) const TOPIC: i16 = 29;
    pub(in crate::kafka) const GROUP: i16 = 30;
    pub(in crate::kafka) const CLUSTER: i16 = 31;
    pub(in crate::kafka) const UNSUPPORTED_VERSION: i16 = 35;
    pub(in crate::kafka) const TRANSACTIONAL_ID: i16 = 53;
    pub(in crate::kafka) const OPERATION_NOT_ATTEMPTED: i16 = 55;
    pub(in crate::kafka) const DELEGATION_TOKEN: i16 = 65;
    pub(in crate::kafka) const FETCH_SESSION_NOT_FOUND: i16 = 70;
    pub(in crate::kafka) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(in crate::kafka) const SHARE_SESSION_NOT_FOUND: i16 = 122;
}

/// What the names of a list or a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Topic,
    Group,
    Transaction,
    /// Group or transactional id, by the request's `KeyType`.
    Coordinator,
    /// Topic, group or cluster, by the entry's `ResourceType`.
    Config,
    /// Nothing to judge: the request was judged as a whole, its answer has an entry for each of these.
    Unjudged,
}

/// A list whose entries are judged one by one, and where the answer has an entry for each.
#[derive(Debug)]
pub(super) struct Entries {
    pub(super) names: Names,
    pub(super) request: &'static str,
    /// Empty: the entries have no partitions, the error is the entry's own.
    pub(super) partitions: &'static str,
    pub(super) response: &'static str,
    pub(super) response_partitions: &'static str,
}

/// What is denied as a whole.
#[derive(Debug)]
pub(super) enum Whole {
    Group(&'static str),
    Transaction(&'static str),
    Coordinator(&'static str),
    /// Any denied topic in this list refuses the request.
    Topics(&'static str),
    /// The topics of a streams topology.
    Topology,
    /// Concerns the cluster; the error that says no.
    Cluster(i16),
    /// Only a follower's fetch concerns the cluster.
    Replica,
    /// A producer id without transactional id.
    ProducerId,
}

/// What an answer tells of names that the request did not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    /// Entries of this list, by this field: the denied ones are left out.
    Names(&'static str, &'static str, Names),
    /// The same, only where the request asks for all (the list is null or empty, or there is none).
    AllNames(&'static str, &'static str, Names),
    /// Groups whose members' topics are denied: such a group is answered with the topic error.
    MemberTopics(&'static str),
    /// Transactions' denied topics are left out.
    TransactionTopics(&'static str),
    /// What a member of a group is assigned to, of which a regular expression may have chosen any topic:
    /// the denied ones are left out.
    Assignment,
}

#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: i16,
    pub(super) whole: &'static [Whole],
    /// The first whose field the version has.
    pub(super) entries: &'static [Entries],
    /// In some versions the entries lie in the elements of this list, each for a group of its own.
    pub(super) scope: Option<&'static str>,
    pub(super) shown: Shown,
}

const fn list(names: Names, request: &'static str, response: &'static str) -> Entries {
    Entries { names, request, partitions: "", response, response_partitions: "" }
}

const fn parts(
    request: &'static str,
    partitions: &'static str,
    response: &'static str,
    response_partitions: &'static str,
) -> Entries {
    Entries { names: Names::Topic, request, partitions, response, response_partitions }
}

const fn asks(key: i16, whole: &'static [Whole], entries: &'static [Entries]) -> Api {
    Api { key, whole, entries, scope: None, shown: Shown::Nothing }
}

const fn shows(key: i16, entries: &'static [Entries], shown: Shown) -> Api {
    Api { key, whole: &[], entries, scope: None, shown }
}

const GROUP: Whole = Whole::Group("GroupId");
const TRANSACTION: Whole = Whole::Transaction("TransactionalId");
const CLUSTER: Whole = Whole::Cluster(error::CLUSTER);
const TOKEN: Whole = Whole::Cluster(error::DELEGATION_TOKEN);
const PARTITIONS: Entries = parts("Topics", "Partitions", "Topics", "Partitions");

/// Sorted by key.
static APIS: &[Api] = &[
    asks(PRODUCE, &[TRANSACTION], &[parts("TopicData", "PartitionData", "Responses", "PartitionResponses")]),
    asks(FETCH, &[Whole::Replica], &[parts("Topics", "Partitions", "Responses", "Partitions")]),
    asks(LIST_OFFSETS, &[], &[PARTITIONS]),
    shows(
        METADATA,
        &[list(Names::Topic, "Topics", "Topics")],
        Shown::AllNames("Topics", "Name", Names::Topic),
    ),
    asks(8, &[GROUP], &[PARTITIONS]), // OffsetCommit
    Api {
        key: OFFSET_FETCH,
        whole: &[GROUP],
        entries: &[parts("Topics", "PartitionIndexes", "Topics", "Partitions")],
        scope: Some("Groups"),
        shown: Shown::AllNames("Topics", "Name", Names::Topic),
    },
    // FindCoordinator
    asks(10, &[Whole::Coordinator("Key")], &[list(Names::Coordinator, "CoordinatorKeys", "Coordinators")]),
    asks(JOIN_GROUP, &[GROUP], &[]),
    asks(12, &[GROUP], &[]),                                         // Heartbeat
    asks(13, &[GROUP], &[]),                                         // LeaveGroup
    asks(14, &[GROUP], &[]),                                         // SyncGroup
    asks(15, &[], &[list(Names::Group, "Groups", "Groups")]),        // DescribeGroups
    shows(16, &[], Shown::Names("Groups", "GroupId", Names::Group)), // ListGroups
    asks(SASL_HANDSHAKE, &[], &[]),
    asks(API_VERSIONS, &[], &[]),
    asks(CREATE_TOPICS, &[], &[list(Names::Topic, "Topics", "Topics")]),
    // DeleteTopics
    asks(
        20,
        &[],
        &[list(Names::Topic, "TopicNames", "Responses"), list(Names::Topic, "Topics", "Responses")],
    ),
    asks(21, &[], &[PARTITIONS]), // DeleteRecords
    asks(INIT_PRODUCER_ID, &[TRANSACTION, Whole::ProducerId], &[]),
    asks(23, &[], &[PARTITIONS]), // OffsetForLeaderEpoch
    asks(
        ADD_PARTITIONS_TO_TXN,
        &[Whole::Transaction("V3AndBelowTransactionalId")],
        &[parts("V3AndBelowTopics", "Partitions", "ResultsByTopicV3AndBelow", "ResultsByPartition")],
    ),
    asks(25, &[TRANSACTION, GROUP], &[]),           // AddOffsetsToTxn
    asks(26, &[TRANSACTION], &[]),                  // EndTxn
    asks(28, &[TRANSACTION, GROUP], &[PARTITIONS]), // TxnOffsetCommit
    asks(29, &[CLUSTER], &[]),                      // DescribeAcls
    asks(30, &[CLUSTER], &[list(Names::Unjudged, "Creations", "Results")]), // CreateAcls
    asks(31, &[CLUSTER], &[list(Names::Unjudged, "Filters", "FilterResults")]), // DeleteAcls
    asks(32, &[], &[list(Names::Config, "Resources", "Results")]), // DescribeConfigs
    asks(33, &[], &[list(Names::Config, "Resources", "Responses")]), // AlterConfigs
    asks(ALTER_REPLICA_LOG_DIRS, &[CLUSTER], &[]),
    asks(35, &[CLUSTER], &[]),                                      // DescribeLogDirs
    asks(36, &[], &[]),                                             // SaslAuthenticate
    asks(37, &[], &[list(Names::Topic, "Topics", "Results")]),      // CreatePartitions
    asks(38, &[TOKEN], &[]),                                        // CreateDelegationToken
    asks(39, &[TOKEN], &[]),                                        // RenewDelegationToken
    asks(40, &[TOKEN], &[]),                                        // ExpireDelegationToken
    asks(41, &[TOKEN], &[]),                                        // DescribeDelegationToken
    asks(42, &[], &[list(Names::Group, "GroupsNames", "Results")]), // DeleteGroups
    // ElectLeaders
    asks(
        43,
        &[CLUSTER],
        &[Entries {
            names: Names::Unjudged,
            ..parts("TopicPartitions", "Partitions", "ReplicaElectionResults", "PartitionResult")
        }],
    ),
    asks(44, &[], &[list(Names::Config, "Resources", "Responses")]), // IncrementalAlterConfigs
    asks(45, &[CLUSTER], &[]),                                       // AlterPartitionReassignments
    asks(46, &[CLUSTER], &[]),                                       // ListPartitionReassignments
    asks(47, &[GROUP], &[PARTITIONS]),                               // OffsetDelete
    asks(48, &[CLUSTER], &[]),                                       // DescribeClientQuotas
    asks(49, &[CLUSTER], &[list(Names::Unjudged, "Entries", "Entries")]), // AlterClientQuotas
    asks(50, &[CLUSTER], &[]),                                       // DescribeUserScramCredentials
    asks(ALTER_USER_SCRAM_CREDENTIALS, &[CLUSTER], &[]),
    asks(55, &[CLUSTER], &[]), // DescribeQuorum
    asks(57, &[CLUSTER], &[]), // UpdateFeatures
    asks(60, &[], &[]),        // DescribeCluster
    // DescribeProducers
    asks(61, &[], &[parts("Topics", "PartitionIndexes", "Topics", "Partitions")]),
    asks(64, &[CLUSTER], &[]), // UnregisterBroker
    // DescribeTransactions
    shows(
        65,
        &[list(Names::Transaction, "TransactionalIds", "TransactionStates")],
        Shown::TransactionTopics("TransactionStates"),
    ),
    // ListTransactions
    shows(66, &[], Shown::Names("TransactionStates", "TransactionalId", Names::Transaction)),
    Api {
        shown: Shown::Assignment,
        ..asks(CONSUMER_GROUP_HEARTBEAT, &[GROUP, Whole::Topics("SubscribedTopicNames")], &[])
    },
    // ConsumerGroupDescribe
    shows(69, &[list(Names::Group, "GroupIds", "Groups")], Shown::MemberTopics("Groups")),
    asks(71, &[], &[]),        // GetTelemetrySubscriptions
    asks(72, &[], &[]),        // PushTelemetry
    asks(74, &[CLUSTER], &[]), // ListConfigResources
    shows(
        DESCRIBE_TOPIC_PARTITIONS,
        &[list(Names::Topic, "Topics", "Topics")],
        Shown::AllNames("Topics", "Name", Names::Topic),
    ),
    asks(76, &[GROUP, Whole::Topics("SubscribedTopicNames")], &[]), // ShareGroupHeartbeat
    // ShareGroupDescribe
    shows(77, &[list(Names::Group, "GroupIds", "Groups")], Shown::MemberTopics("Groups")),
    asks(SHARE_FETCH, &[GROUP], &[parts("Topics", "Partitions", "Responses", "Partitions")]),
    asks(SHARE_ACKNOWLEDGE, &[GROUP], &[parts("Topics", "Partitions", "Responses", "Partitions")]),
    asks(80, &[CLUSTER], &[]),                // AddRaftVoter
    asks(81, &[CLUSTER], &[]),                // RemoveRaftVoter
    asks(88, &[GROUP, Whole::Topology], &[]), // StreamsGroupHeartbeat
    // StreamsGroupDescribe
    shows(89, &[list(Names::Group, "GroupIds", "Groups")], Shown::MemberTopics("Groups")),
    Api {
        key: 90, // DescribeShareGroupOffsets
        whole: &[],
        entries: &[PARTITIONS],
        scope: Some("Groups"),
        shown: Shown::AllNames("Topics", "TopicName", Names::Topic),
    },
    asks(91, &[GROUP], &[parts("Topics", "Partitions", "Responses", "Partitions")]), // AlterShareGroupOffsets
    asks(92, &[GROUP], &[list(Names::Topic, "Topics", "Responses")]), // DeleteShareGroupOffsets
];

pub(super) fn api(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key).ok().map(|at| &APIS[at])
}

/// The topics that an answer to ConsumerGroupHeartbeat assigns.
pub(super) fn assigned(answer: &Value, layout: &Layout) -> Vec<[u8; 16]> {
    let Some((assignment, list, topic)) = assignment(layout) else { return Vec::new() };
    let topics = answer.get(layout, "Assignment").get(assignment, list).elements().iter();
    topics.filter_map(|one| one.get(topic, "TopicId").as_uuid()).collect()
}

/// The layouts of an assignment and of a topic in it, and the name of the list between them.
pub(super) fn assignment(layout: &Layout) -> Option<(&Layout, &'static str, &Layout)> {
    let assignment = layout.inside("Assignment")?;
    Some((assignment, "TopicPartitions", assignment.inside("TopicPartitions")?))
}

/// The topics of one directory of AlterReplicaLogDirs.
pub(super) fn log_dir_topics() -> &'static Entries {
    static TOPICS: Entries =
        Entries { names: Names::Unjudged, ..parts("Topics", "Partitions", "Results", "Partitions") };
    &TOPICS
}

/// Versions that are understood; none of a request that is not in the table.
pub(super) fn versions(key: i16) -> Versions {
    let (Some(_), Some(message)) = (api(key), schema::message(key)) else { return Versions::NONE };
    match key {
        // After version 0 the tokens come without a header, so that nobody can tell them from requests.
        SASL_HANDSHAKE => Versions { first: 1, ..message.versions },
        // From version 4 on these are for brokers among themselves.
        ADD_PARTITIONS_TO_TXN => Versions { last: 3, ..message.versions },
        // From version 10 on the offsets of all topics come with ids alone, of which nobody has told names.
        OFFSET_FETCH => Versions { last: 9, ..message.versions },
        _ => message.versions,
    }
}

/// Versions that clients are told of. Old librdkafka looks for version 0 of SaslHandshake in the offer
/// and then uses version 1.
pub(super) fn offered(key: i16) -> Versions {
    match key {
        SASL_HANDSHAKE => Versions { first: 0, ..versions(key) },
        _ => versions(key),
    }
}

impl Api {
    fn any_entries(&self, of: impl Fn(Names) -> bool) -> bool {
        let shown = match self.shown {
            Shown::Names(_, _, names) | Shown::AllNames(_, _, names) => of(names),
            Shown::MemberTopics(_) | Shown::TransactionTopics(_) | Shown::Assignment | Shown::Nothing => {
                false
            }
        };
        shown || self.entries.iter().any(|entries| of(entries.names))
    }

    /// Whether requests of this type name topics.
    pub(super) fn has_topics(&self) -> bool {
        self.any_entries(|names| names == Names::Topic)
            || self.whole.iter().any(|whole| matches!(whole, Whole::Topics(_) | Whole::Topology))
    }

    pub(super) fn has_groups(&self) -> bool {
        self.any_entries(|names| matches!(names, Names::Group | Names::Coordinator))
            || self.scope.is_some()
            || self.whole.iter().any(|whole| matches!(whole, Whole::Group(_) | Whole::Coordinator(_)))
    }

    pub(super) fn has_transactions(&self) -> bool {
        self.any_entries(|names| matches!(names, Names::Transaction | Names::Coordinator))
            || self.whole.iter().any(|whole| matches!(whole, Whole::Transaction(_) | Whole::Coordinator(_)))
    }

    /// Resources of several kinds, each its own.
    pub(super) fn has_configs(&self) -> bool {
        self.any_entries(|names| names == Names::Config)
    }

    /// Cilium's roles (produce: Produce, Metadata; consume: Fetch, ListOffsets, Metadata, OffsetCommit,
    /// OffsetFetch, FindCoordinator, JoinGroup, Heartbeat, LeaveGroup, SyncGroup), and what clients of
    /// today send for the same work: producer ids, transactions, the newer group protocols, leader
    /// epochs. A transaction that commits offsets needs both roles, as it needs ACLs on both.
    pub(super) fn is_in(&self, role: Role, resource: Resource<'_>) -> bool {
        let keys: &[i16] = match (role, resource) {
            (Role::Produce, Resource::Topic(_)) => &[PRODUCE, METADATA, 24, 75],
            (Role::Produce, Resource::TransactionalId(_)) => &[PRODUCE, 10, 22, 24, 25, 26, 28],
            (Role::Consume, Resource::Topic(_)) => {
                &[FETCH, 2, METADATA, 8, 9, 23, 28, 68, 75, 76, 78, 79, 88]
            }
            (Role::Consume, Resource::Group(_)) => &[8, 9, 10, 11, 12, 13, 14, 25, 28, 68, 76, 78, 79, 88],
            _ => &[],
        };
        keys.contains(&self.key)
    }
}
