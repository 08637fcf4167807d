#!/usr/bin/env python3
"""Messages in transactions, there and back: `transfer.py BOOTSTRAP USER PASSWORD TOPIC COUNT`.

Every fourth transaction is aborted; a reader of what was committed must see exactly the others. Prints the
checksums of what was committed and of what came.
"""
import hashlib
import sys

from confluent_kafka import Consumer, Producer, TopicPartition

BOOTSTRAP, USER, PASSWORD, TOPIC, COUNT = sys.argv[1:]
COMMON = {
    "bootstrap.servers": BOOTSTRAP,
    "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanism": "PLAIN",
    "sasl.username": USER,
    "sasl.password": PASSWORD,
}
EACH = 5000


def message(number):
    return f"{number} of {COUNT}, in a transaction".encode()


producer = Producer({**COMMON, "transactional.id": "good-transfer", "queue.buffering.max.messages": 200000,
                     "linger.ms": 5})
producer.init_transactions(30)
committed, left = hashlib.sha256(), int(COUNT)
transaction = number = 0
while left > 0:
    producer.begin_transaction()
    aborted = transaction % 4 == 3
    for number in range(number, number + EACH):
        producer.produce(TOPIC, message(number), partition=0)
        if not aborted:
            committed.update(message(number))
    number += 1
    if aborted:
        producer.flush(60)
        producer.abort_transaction(60)
    else:
        producer.commit_transaction(60)
        left -= EACH
    transaction += 1

consumer = Consumer({**COMMON, "group.id": "good-transfer", "isolation.level": "read_committed",
                     "enable.auto.commit": False, "enable.partition.eof": False})
consumer.assign([TopicPartition(TOPIC, 0, 0)])
came, count = hashlib.sha256(), 0
while count < int(COUNT):
    messages = consumer.consume(10000, 60)
    if not messages:
        sys.exit(f"only {count} messages came")
    for one in messages:
        if one.error():
            sys.exit(str(one.error()))
        came.update(one.value())
    count += len(messages)
consumer.close()
print(committed.hexdigest(), came.hexdigest(), count, transaction)
