#!/usr/bin/env python3
"""Makes the corpora of the fuzz targets out of what is frozen or shown elsewhere: the byte vectors, the
literals of the tests, the sample configurations. `seeds.py TARGET` fills corpus/TARGET; what a run has
found stays beside it."""

import ast
import hashlib
import json
import pathlib
import re
import sys

FUZZ = pathlib.Path(__file__).resolve().parent
TREE = FUZZ.parent
V1 = TREE / "protocol/tests/v1"
DECODE = TREE / "edge-agent/src/decode"
VECTORS = json.loads((TREE / "protocol/vectors/v1.json").read_text())


def literals(*folders):
    """Every string literal of the Rust files, as bytes."""
    for folder in folders:
        for path in sorted(folder.rglob("*.rs")) if folder.is_dir() else [folder]:
            text = path.read_text()
            raw = re.compile(r'b?r(#*)"(.*?)"\1', re.S)
            yield from (m.group(2).encode() for m in raw.finditer(text))
            for m in re.finditer(r'"((?:[^"\\]|\\.)*)"', raw.sub("", text)):
                body = re.sub(r"\\\n\s*", "", m.group(1)).replace("\n", "\\n")
                body = re.sub(r"\\u\{([0-9a-f]+)\}", lambda u: chr(int(u.group(1), 16)), body)
                try:
                    yield ast.literal_eval(f'"{body}"').encode("latin-1", "ignore")
                except (SyntaxError, ValueError):
                    pass


def hexes(*folders):
    for literal in literals(*folders):
        digits = re.sub(rb"\s", b"", literal)
        if len(digits) >= 16 and len(digits) % 2 == 0 and re.fullmatch(rb"[0-9a-f]+", digits):
            yield bytes.fromhex(digits.decode())


def objects(*folders):
    return (l for l in literals(*folders) if l[:1] in b"{[" and len(l) > 8)


def frames():
    for case in VECTORS["valid"] + VECTORS["invalid"]:
        yield bytes.fromhex(case["frame"])
    for case in VECTORS["streams"]:
        yield bytes.fromhex(case["bytes"])


def mqtt():
    for path in sorted((DECODE / "mqtt/tests").glob("*.rs")) + [DECODE / "mqtt/sparkplug/tests.rs"]:
        topic = b"tele/plug/SENSOR"
        for literal in literals(path):
            if b"/" in literal and b"{" not in literal and len(literal) < 100:
                topic = literal
            elif len(literal) > 2:
                for preset in range(9):
                    head = bytes([preset, len(topic)]) + topic
                    yield head + len(literal).to_bytes(2, "little") + literal


def serial():
    for literal in [*literals(*(p for p in DECODE.rglob("tests.rs"))), *hexes(DECODE), *frames()]:
        if len(literal) > 8:
            yield from (bytes([preset]) + literal + b"\r\n" for preset in range(16))


def templates():
    for literal in literals(DECODE / "template.rs"):
        yield literal + b"\nplant/berlin/press-1/temperature"


def records():
    head = b"key: gw7\nce_type: edge.reading.v1\nce_id: gw7:1f3a9c04d2be:00000001584d\n"
    for value in objects(V1, TREE / "cloud-sink/src/decode/tests.rs"):
        yield head + b"content-type: application/json\n\n" + value
        yield b"key: gw7\n\n" + value
    for value in hexes(V1):
        yield head + b"content-type: application/vnd.edge.postcard\n\n" + value


def config(daemon):
    sample = (TREE / daemon / "src/config/sample.toml").read_bytes()
    yield sample
    yield re.sub(rb"(?m)^#(?! )", b"", sample)
    yield from literals(TREE / daemon / "src/config/tests.rs")


def stored(name):
    return (path.read_bytes() for path in (FUZZ / "seeds" / name).iterdir())


def texts():
    return (l for l in literals(DECODE) if len(l) > 4)


TARGETS = {
    "frame_stream": frames,
    "record_json": lambda: objects(V1),
    "record_postcard": lambda: hexes(V1),
    "control_fact": lambda: objects(V1),
    "queue_lane": lambda: stored("queue_lane"),
    "queue_head": lambda: stored("queue_head"),
    "queue_block": lambda: stored("queue_block"),
    "queue_carry": lambda: stored("queue_carry"),
    "lines": texts,
    "mqtt_template": templates,
    "mqtt_preset": mqtt,
    "serial_preset": serial,
    "modbus_reply": lambda: (bytes([n, q]) + h for h in hexes(DECODE) for n in range(18) for q in (0, 1)),
    "sink_record": records,
    "agent_config": lambda: config("edge-agent"),
    "sink_config": lambda: config("cloud-sink"),
}

if __name__ == "__main__":
    target = sys.argv[1]
    corpus = FUZZ / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = {seed for seed in TARGETS[target]() if len(seed) <= 16384}
    for seed in seeds:
        (corpus / f"seed-{hashlib.sha1(seed).hexdigest()[:16]}").write_bytes(seed)
    assert seeds, f"no seeds for {target}"
    print(f"{target}: {len(seeds)} seeds")
