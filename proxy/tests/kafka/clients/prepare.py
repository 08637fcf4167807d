#!/usr/bin/env python3
"""Topics and ACLs for outcomes.py, by a listener where everything is allowed: `prepare.py BOOTSTRAP RUN...`"""
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding, AclOperation, AclPermissionType, AdminClient, NewTopic, ResourcePatternType, ResourceType,
)

admin = AdminClient({"bootstrap.servers": sys.argv[1]})
topics = [f"{kind}-{run}" for run in sys.argv[2:] for kind in ["open", "ro", "wo", "shut"]]
for future in admin.create_topics([NewTopic(topic, 1, 1) for topic in topics]).values():
    future.result(20)

READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, CONFIGS = (
    AclOperation.READ, AclOperation.WRITE, AclOperation.CREATE, AclOperation.DELETE, AclOperation.ALTER,
    AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS)
ACLS = {
    (ResourceType.TOPIC, "open-"): [READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, CONFIGS],
    (ResourceType.TOPIC, "ro-"): [READ, DESCRIBE],
    (ResourceType.TOPIC, "wo-"): [WRITE, DESCRIBE],
    (ResourceType.GROUP, "good-"): [READ, DESCRIBE, DELETE],
    (ResourceType.TRANSACTIONAL_ID, "good-"): [WRITE, DESCRIBE],
}
bindings = [
    AclBinding(kind, prefix, ResourcePatternType.PREFIXED, "User:app", "*", operation, AclPermissionType.ALLOW)
    for (kind, prefix), operations in ACLS.items() for operation in operations
]
for future in admin.create_acls(bindings).values():
    future.result(20)

producer = Producer({"bootstrap.servers": sys.argv[1]})
for topic in topics:
    producer.produce(topic, b"there before")
assert producer.flush(20) == 0

# The broker makes its own topics when the first group and the first transaction ask for them, and says
# "not yet" for a while: not to be seen by either of the runs that are compared.
def until_ready(action):
    end = time.monotonic() + 60
    while True:
        try:
            return action()
        except KafkaException:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


for number in range(4):  # whichever partitions of those topics they fall into
    consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": f"first-{number}"})
    until_ready(lambda: consumer.committed([TopicPartition(topics[0], 0)], 20))
    consumer.close()
    producer = Producer({"bootstrap.servers": sys.argv[1], "transactional.id": f"first-{number}"})
    until_ready(lambda: producer.init_transactions(20))
