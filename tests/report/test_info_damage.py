"""Info never fails because memory is damaged: log, names, lowcores and VMCOREINFO with random bytes in them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import vmcorefs
from tests.builders import Built, cpus
from tests.builders.printk import RecordLog, Ring
from tests.report.infos import LOG_AT, NAMES_AT, PANIC, with_log
from tests.report.test_info_schema import complaints
from vmcorefs.report.map import make_map, map_text
from vmcorefs.report.map_svg import map_svg

ROUNDS = 60
MIB = 1 << 20


def look(built: Built) -> None:
    with vmcorefs.open(built.image) as dump:
        info = dump.info()
        json.dumps(info.as_dict(), allow_nan=False)
        text = info.as_text()
        assert all(c.isprintable() or c == "\n" for c in text)
        assert complaints(info) == []
        map_text(make_map(dump))
        map_svg(make_map(dump), str(info.crash.reason))


def logs() -> list[Ring | RecordLog]:
    ring, old = Ring(count_bits=6, size_bits=12), RecordLog(size=4096)
    for text in PANIC:
        ring.log(text, 1)
        old.log(text, 1)
    return [ring, old]


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(tmp_path: Path, kind: int, seed: int) -> None:
    rng = random.Random(f"{kind} {seed}")
    built = with_log(tmp_path, logs()[kind], cpus=cpus(2))
    raw = built.image.read_bytes()
    places = [(LOG_AT, 0x3000), (NAMES_AT, 400), (2 * MIB + built.places["vmcoreinfo"], 0xC00),
              (2 * MIB + built.places["lowcore[1]"], 0x2000), (2 * MIB + built.places["lowcore_ptr"], 64), (0x5100, 8)]
    for _ in range(ROUNDS // 4):
        data = bytearray(raw)
        for start, size in rng.sample(places, rng.randint(1, 3)):
            for _ in range(rng.choice((1, 8, 200))):
                value = rng.choice((b"\0", b"\xff", b"\x80", b"\x01", b"\n", b"9", b"f", b"\x1b"))
                at = start + rng.randrange(size)
                data[at:at + 1] = value
        built.image.write_bytes(data)
        look(built)


def test_a_hostile_ring_is_not_searched(tmp_path: Path) -> None:
    """2^24 descriptors, nearly all unreadable or nonsense: a mount must not wait for that."""
    log = Ring(count_bits=6, size_bits=12)
    for text in PANIC:
        log.log(text, 1)
    built = with_log(tmp_path, log)
    ring = log.place(LOG_AT).at["ring"]
    built.poke_old(ring, (24).to_bytes(4, "big"))  # desc_ring.count_bits
    built.poke_old(ring + 32, (7).to_bytes(8, "big"))  # tail_id far from head_id
    with vmcorefs.open(built.image) as dump:
        assert "damaged; vmcorefs dmesg searches all" in dump.info().absent["log"]
