#!/usr/bin/env python3
"""Topics and ACLs for outcomes.py, by a listener where everything is allowed: `prepare.py BOOTSTRAP RUN...`"""
import sys

from confluent_kafka import Producer
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
