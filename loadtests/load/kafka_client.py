#!/usr/bin/env python3
"""A program: `kafka_client.py produce|consume|one BOOTSTRAP TOPIC MESSAGES OCTETS` moves so many messages of
so many octets and prints how long that took; `one` prints what became of a single message."""

import json
import os
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

way, bootstrap, topic = sys.argv[1:4]
count, octets = map(int, sys.argv[4:6])
COMMON = {"bootstrap.servers": bootstrap}


def produce() -> float:
    producer = Producer({
        **COMMON, "linger.ms": 5, "batch.size": 1_000_000, "batch.num.messages": 100_000, "acks": 1,
        "queue.buffering.max.kbytes": 64 << 10, "queue.buffering.max.messages": 1_000_000,
    })
    failed = []

    def delivered(error, _message):
        if error:
            failed.append(str(error))

    producer.list_topics(topic, 20)
    payload, began = os.urandom(octets), time.monotonic()
    for _ in range(count):
        while True:
            try:
                producer.produce(topic, payload, partition=0, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        producer.poll(0)
    left = producer.flush(60)
    if failed or left:
        sys.exit(f"{len(failed)} failed, {left} were not sent: {failed[:1]}")
    return time.monotonic() - began


def consume() -> float:
    consumer = Consumer({
        **COMMON, "group.id": "bench", "enable.auto.commit": False, "fetch.max.bytes": 8 << 20,
        "max.partition.fetch.bytes": 4 << 20, "queued.max.messages.kbytes": 64 << 10, "check.crcs": False,
    })
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), 20)
    if high - low < count:
        sys.exit(f"only {high - low} messages to read")
    consumer.assign([TopicPartition(topic, 0, high - count)])
    came, began = 0, time.monotonic()
    while came < count:
        messages = consumer.consume(1000, 30)
        if not messages:
            sys.exit(f"only {came} messages came")
        for message in messages:
            if message.error():
                sys.exit(str(message.error()))
        came += len(messages)
    took = time.monotonic() - began
    consumer.close()
    return took


def one() -> str:
    told = []
    producer = Producer({**COMMON, "message.timeout.ms": 10_000, "log_level": 0})
    producer.produce(topic, b"one", on_delivery=lambda error, _message: told.append(error.name() if error else "ok"))
    producer.flush(20)
    return told[0] if told else "nothing"


if way == "one":
    print(one())
else:
    seconds = produce() if way == "produce" else consume()
    times = os.times()
    print(json.dumps({"octets": count * octets, "seconds": seconds, "cpu": times.user + times.system}))
