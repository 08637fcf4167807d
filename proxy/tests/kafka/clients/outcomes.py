#!/usr/bin/env python3
"""What a client sees, one line an outcome: `outcomes.py BOOTSTRAP USER PASSWORD RUN`.

The same script runs against the broker's own ACLs and against Tektin's rules; the lines must be equal.
Topics `open-*` may be written and read, `ro-*` only read, `wo-*` only written, `shut-*` nothing; groups
and transactional ids `good-*` may be used. RUN is in all names, so that two runs do not meet. How long
each took goes to standard error.
"""
import sys
import time
import warnings

from confluent_kafka import (
    Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaError, KafkaException, Producer,
    TopicCollection, TopicPartition,
)
from confluent_kafka.admin import (
    AclBindingFilter, AclOperation, AclPermissionType, AdminClient, ConfigResource, NewPartitions, NewTopic,
    OffsetSpec, ResourcePatternType, ResourceType,
)

warnings.filterwarnings("ignore")
BOOTSTRAP, USER, PASSWORD, RUN = sys.argv[1:]
WAIT = 40
COMMON = {
    "bootstrap.servers": BOOTSTRAP,
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": USER,
    "sasl.password": PASSWORD,
    "log_level": 0,
    "error_cb": lambda error: None,
}


def name(kind):
    return f"{kind}-{RUN}"


def word(error):
    if isinstance(error, KafkaException):
        error = error.args[0]
    return error.name() if isinstance(error, KafkaError) else type(error).__name__


def tell(what, outcome):
    print(f"{what}: {outcome}".replace(f"-{RUN}", ""), flush=True)


def attempt(what, action):
    began = time.monotonic()
    try:
        outcome = action()
    except Exception as error:  # whatever a client raises is the outcome
        outcome = word(error)
    seconds = time.monotonic() - began
    tell(what, "ok" if outcome is None else outcome)
    print(f"{seconds:.2f} {what}".replace(f"-{RUN}", ""), file=sys.stderr, flush=True)
    if seconds > WAIT:
        tell(what, "took too long")


def futures(of):
    answers = []
    for key, future in of.items():
        try:
            future.result(WAIT)
            outcome = "ok"
        except Exception as error:
            outcome = word(error)
        answers.append((str(getattr(key, "topic", getattr(key, "name", key))).replace(f"-{RUN}", ""), outcome))
    return sorted(answers)


def produce(topics, **config):
    producer, seen = Producer({**COMMON, "message.timeout.ms": 30000, **config}), []
    for topic in topics:
        producer.produce(topic, b"value", on_delivery=lambda error, message: seen.append(
            (message.topic(), word(error) if error else "ok")))
    producer.flush(WAIT)
    return sorted(seen)


def consumer(group, **config):
    return Consumer({**COMMON, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, "session.timeout.ms": 6000, **config})


def seen_by(client, least, seconds=WAIT):
    """Topics of messages and errors, until `least` different ones were seen."""
    seen, end = set(), time.monotonic() + seconds
    while len(seen) < least and time.monotonic() < end:
        message = client.poll(0.2)
        if message is not None:
            seen.add(word(message.error()) if message.error() else message.topic())
    client.close()
    return sorted(seen)


def fetch(*topics, least, **config):
    client = consumer(name("good"), **config)
    client.assign([TopicPartition(topic, 0, 0) for topic in topics])
    return seen_by(client, least)


def subscribe(group, *topics, least, **config):
    client = consumer(group, **config)
    client.subscribe(list(topics))
    return seen_by(client, least)


def commit(group, *topics):
    client = consumer(group)
    answer = client.commit(offsets=[TopicPartition(topic, 0, 1) for topic in topics], asynchronous=False)
    client.close()
    return sorted((one.topic, word(one.error) if one.error else "ok") for one in answer)


def committed(group, *topics):
    client = consumer(group)
    answer = client.committed([TopicPartition(topic, 0) for topic in topics], timeout=3)
    client.close()
    return sorted((one.topic, one.offset, word(one.error) if one.error else "ok") for one in answer)


def transaction(identifier, *topics, group=None):
    producer = Producer({**COMMON, "transactional.id": identifier, "message.timeout.ms": 30000})
    producer.init_transactions(WAIT)
    producer.begin_transaction()
    errors = []
    for topic in topics:
        producer.produce(topic, b"in a transaction", on_delivery=lambda error, message: errors.append(
            (message.topic(), word(error) if error else "ok")))
    producer.flush(WAIT)
    if group:
        client = consumer(group)
        client.assign([TopicPartition(topics[0], 0, 0)])
        metadata = client.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(topics[0], 0, 1)], metadata, WAIT)
        client.close()
    try:
        producer.commit_transaction(WAIT)
        errors.append("committed")
    except KafkaException as error:
        errors.append(word(error))
        try:
            producer.abort_transaction(WAIT)
            errors.append("aborted")
        except KafkaException as again:
            errors.append(word(again))
    return errors


def metadata_of(topic):
    error = admin.list_topics(topic, WAIT).topics[topic].error
    return word(error) if error else "ok"


def named(topics):
    return sorted(topic.replace(f"-{RUN}", "") for topic in topics if topic.endswith(RUN))


admin = AdminClient(COMMON)
opened, read_only, write_only, shut = map(name, ["open", "ro", "wo", "shut"])
good, bad = name("good"), name("bad")

attempt("produce to each", lambda: produce([opened, read_only, write_only, shut]))
attempt("idempotent produce", lambda: produce([opened, write_only], **{"enable.idempotence": True}))
attempt("idempotent produce, denied", lambda: produce([read_only], **{"enable.idempotence": True}))
attempt("produce, gzip", lambda: produce([opened], **{"compression.type": "gzip"}))
attempt("metadata of all", lambda: named(admin.list_topics(timeout=WAIT).topics))
for topic in [opened, read_only, write_only, shut]:
    attempt(f"metadata of {topic}", lambda: metadata_of(topic))
attempt("fetch of an allowed one", lambda: fetch(opened, least=1))
attempt("fetch of a denied one", lambda: fetch(write_only, least=1))
attempt("fetch of both", lambda: fetch(opened, write_only, least=2))
attempt("watermarks, allowed", lambda: consumer(good).get_watermark_offsets(TopicPartition(opened, 0), WAIT)[0])
attempt("watermarks, denied", lambda: consumer(good).get_watermark_offsets(TopicPartition(write_only, 0), WAIT))
attempt("list offsets", lambda: futures(admin.list_offsets(
    {TopicPartition(topic, 0): OffsetSpec.latest() for topic in [opened, read_only, shut]},
    isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=WAIT)))
attempt("commit, good group", lambda: commit(good, opened))
attempt("commit, mixed topics", lambda: commit(good, opened, shut))
attempt("commit, bad group", lambda: commit(bad, opened))
attempt("committed, good group", lambda: committed(good, opened, shut))
attempt("committed, bad group", lambda: committed(bad, opened))
attempt("group over allowed topics", lambda: subscribe(good, opened, least=1))
attempt("group over both", lambda: subscribe(good, opened, shut, least=2))
attempt("bad group", lambda: subscribe(bad, opened, least=1))
NEW = {"group.protocol": "consumer"}


def subscribe_new(group, *topics, least, seconds=WAIT):
    config = {**COMMON, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, **NEW}
    client = Consumer(config)
    client.subscribe(list(topics))
    return seen_by(client, least, seconds)


attempt("new group over allowed topics", lambda: subscribe_new(name("good-new"), opened, least=1))
attempt("new group over both", lambda: subscribe_new(name("good-new"), opened, shut, least=1))
attempt("new bad group", lambda: subscribe_new(name("bad-new"), opened, least=1))
# The broker looks for topics that match; what is denied is not among them, without an error.
attempt("new group by expression", lambda: subscribe_new(name("good-re"), f"^(open|ro)-{RUN}$", least=2))
attempt("new group by expression, mixed", lambda: subscribe_new(name("good-mixed"), f"^(open|shut)-{RUN}$", least=1))
attempt("new group by expression, denied", lambda: subscribe_new(
    name("good-none"), f"^shut-{RUN}$", least=1, seconds=4))
attempt("transaction", lambda: transaction(name("good"), opened))
attempt("transaction with offsets", lambda: transaction(name("good"), opened, group=good))
attempt("transaction, bad group", lambda: transaction(name("good"), opened, group=bad))
attempt("transaction, denied topic", lambda: transaction(name("good"), read_only))
# The two may go to the broker together or one by one, so only the commit's outcome is told.
attempt("transaction, mixed topics", lambda: transaction(name("good"), opened, read_only)[2])
attempt("transaction, bad id", lambda: transaction(name("bad"), opened))
attempt("create topics", lambda: futures(admin.create_topics(
    [NewTopic(f"open-new-{RUN}", 1, 1), NewTopic(f"shut-new-{RUN}", 1, 1)], request_timeout=WAIT)))
attempt("describe topics", lambda: futures(admin.describe_topics(
    TopicCollection([opened, shut, f"open-none-{RUN}"]), request_timeout=WAIT)))
attempt("describe configs", lambda: [futures(admin.describe_configs(
    [ConfigResource(ResourceType.TOPIC, topic)], request_timeout=WAIT)) for topic in [opened, shut]])
attempt("describe broker configs", lambda: futures(admin.describe_configs(
    [ConfigResource(ResourceType.BROKER, "1")], request_timeout=WAIT)))
attempt("create partitions", lambda: futures(admin.create_partitions(
    [NewPartitions(f"open-new-{RUN}", 2), NewPartitions(shut, 3)], request_timeout=WAIT)))
attempt("delete records", lambda: futures(admin.delete_records(
    [TopicPartition(opened, 0, 1), TopicPartition(shut, 0, 1)], request_timeout=WAIT)))
attempt("delete topics", lambda: futures(admin.delete_topics(
    [f"open-new-{RUN}", shut], request_timeout=WAIT)))
attempt("describe groups", lambda: futures(admin.describe_consumer_groups([good, bad], request_timeout=WAIT)))
attempt("list groups", lambda: named(
    one.group_id for one in admin.list_consumer_groups(request_timeout=WAIT).result(WAIT).valid))
attempt("group offsets", lambda: futures(admin.list_consumer_group_offsets(
    [ConsumerGroupTopicPartitions(good)], request_timeout=WAIT)))
attempt("group offsets, bad", lambda: futures(admin.list_consumer_group_offsets(
    [ConsumerGroupTopicPartitions(bad)], request_timeout=WAIT)))
attempt("delete groups", lambda: futures(admin.delete_consumer_groups([good, bad], request_timeout=WAIT)))
attempt("describe acls", lambda: len(admin.describe_acls(AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY),
    request_timeout=WAIT).result(WAIT)))
attempt("describe cluster", lambda: len(admin.describe_cluster(request_timeout=WAIT).result(WAIT).nodes))
