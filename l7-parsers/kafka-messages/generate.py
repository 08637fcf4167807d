#!/usr/bin/env python3
"""Writes messages.txt: the layout of every Kafka request and response that a broker's listener takes.

    generate.py kafka-clients-4.3.1.jar > messages.txt

The jar (Maven, org.apache.kafka:kafka-clients) carries the protocol's message definitions as JSON with
comments. Kept of them are names, types, version ranges, tags and defaults.
"""
import json
import re
import sys
import zipfile

jar = zipfile.ZipFile(sys.argv[1])
messages = {}
for path in jar.namelist():
    if path.startswith("common/message/") and path.endswith(".json"):
        message = json.loads(re.sub(r"^\s*//.*$", "", jar.read(path).decode(), flags=re.M))
        if message["type"] in ("request", "response") and message["validVersions"] != "none":
            messages[message["apiKey"], message["type"]] = message


def fields(of, shared, depth):
    for field in of:
        kind = field["type"]
        bare = kind.removeprefix("[]")
        inner = field.get("fields") or shared.get(bare)
        if inner:
            kind = ("[]" if kind.startswith("[]") else "") + "struct"
        words = [" " * depth + field["name"], kind, field["versions"]]
        if "nullableVersions" in field:
            words.append("null:" + field["nullableVersions"])
        if "tag" in field:
            words.append(f"tag:{field['tag']}:{field['taggedVersions']}")
        default = str(field.get("default", "")).lower()
        if default:
            words.append("default:" + (str(int(default, 16)) if default.startswith("0x") else default))
        if field.get("flexibleVersions"):
            words.append("flexible:" + field["flexibleVersions"])
        print(*words)
        if inner:
            fields(inner, shared, depth + 1)


print("# Layout of Apache Kafka's messages, made by generate.py from kafka-clients 4.3.1; do not edit.")
print("# `> key Name versions flexible` begins a request, `<` its response. Then a field a line, its depth as")
print("# indentation: name, type, versions, and where given null: versions, tag:number:versions, default:value.")
for key in sorted({key for key, _ in messages}):
    request, response = messages[key, "request"], messages[key, "response"]
    if "broker" not in request["listeners"]:
        continue
    for sign, message in (">", request), ("<", response):
        shared = {common["name"]: common["fields"] for common in message.get("commonStructs", [])}
        name = message["name"].removesuffix("Request").removesuffix("Response")
        print(sign, key, name, message["validVersions"], message["flexibleVersions"])
        fields(message["fields"], shared, 1)
