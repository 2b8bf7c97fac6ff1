"""Confluent's own client, as anybody would use it: reads our Avro, and writes Avro of its own.

read BOOTSTRAP TOPIC COUNT     prints that many values, one JSON object a line
write BOOTSTRAP TOPIC COUNT    writes that many values of another record to the topic
The registry is in REGISTRY_URL, REGISTRY_LOGIN (KEY:SECRET) and REGISTRY_CA.
"""

import json
import os
import sys
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

SCHEMA = """
{"type": "record", "name": "Weather", "namespace": "org.example", "fields": [
  {"name": "device", "type": "string"},
  {"name": "temperature_c", "type": "float"},
  {"name": "rain", "type": ["null", "boolean"], "default": null}]}
"""


def registry():
    return SchemaRegistryClient(
        {
            "url": os.environ["REGISTRY_URL"],
            "basic.auth.user.info": os.environ["REGISTRY_LOGIN"],
            "ssl.ca.location": os.environ["REGISTRY_CA"],
        }
    )


def read(bootstrap, topic, count):
    deserializer = AvroDeserializer(registry())
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": str(uuid.uuid4()),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    context = SerializationContext(topic, MessageField.VALUE)
    left, silent = count, 0
    while left > 0:
        message = consumer.poll(1.0)
        if message is None:
            silent += 1
            if silent > 60:
                sys.exit(f"{left} of {count} records did not come")
            continue
        if message.error():
            sys.exit(str(message.error()))
        silent = 0
        value = deserializer(message.value(), context)
        print(json.dumps(value, default=str))
        left -= 1
    consumer.close()


def write(bootstrap, topic, count):
    # Under a subject of its own: the topic's own stays what it is.
    config = {"subject.name.strategy": topic_record_subject_name_strategy}
    serializer = AvroSerializer(registry(), SCHEMA, conf=config)
    producer = Producer({"bootstrap.servers": bootstrap})
    context = SerializationContext(topic, MessageField.VALUE)
    for number in range(count):
        value = {"device": "station", "temperature_c": number + 0.5, "rain": number % 2 == 0}
        producer.produce(topic, key="station", value=serializer(value, context))
    if producer.flush(30) > 0:
        sys.exit("records were not acknowledged")


if __name__ == "__main__":
    command, bootstrap, topic, count = sys.argv[1:]
    {"read": read, "write": write}[command](bootstrap, topic, int(count))
