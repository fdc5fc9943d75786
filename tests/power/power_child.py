"""Power loss, replayed: one process writes a store and is recorded, another makes images and reads them.

``write`` runs under the recorder (record.c). ``judge`` rebuilds, from the record, what a disk may hold
when the power goes: everything before a sync, and of what came after it nothing, a beginning, any
subset, or any subset of 512-byte sectors. Each image is opened in a process of its own and gets one
word: ``good``, ``fresh`` (refused, but nothing had been acknowledged yet), and what must not be:
``refused``, ``lost``, ``stale``, ``wrong``, ``unclean``, ``unwritable``, ``raised``, ``crashed``.
"""

import json
import os
import random
import shutil
import signal
import struct
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Durability, Entry, Identity, Lost, Message, Payload, Request, Use

PRINT = "engine:test"
KEYS = 40
NEW_KEY = KEYS  # written to an image, never by the workload
THREADS = 4
ROUNDS = 6
START_MS = 1_000_000
SECTOR = 512
META_END = 2 * 4096
POLICIES = ("none", "all", "prefix", "subset", "torn", "torn_last")
WORDS = ("good", "fresh", "refused", "lost", "stale", "wrong", "unclean", "unwritable", "raised", "crashed")
Sets = dict[int, int | None]


def identity(key: int) -> Identity:
    return identify(Request(f"space{key % 3}", (Message("user", f"question {key}"),), "m", {}), PRINT)


def response(key: int, edition: int) -> bytes:
    source = np.random.default_rng([key, edition])
    return f"{key}/{edition} ".encode() + source.bytes(int(source.choice((40, 700, 3000, 9000))))


def draft(key: int, edition: int) -> Draft:
    vector = np.random.default_rng([edition, key]).normal(size=16).astype(np.float32)
    expires_ms = START_MS + 1000 + (key * 37 + edition * 101) % 1000
    return Draft(
        identity(key), Payload(response(key, edition)), f"question {key}", vector, START_MS, expires_ms
    )


def open_store(path: Path, durability: Durability) -> LmdbStore:
    return LmdbStore(StoreOptions(path, 8 << 20, 4 << 20, durability, 64, 2048, 300), PRINT)


# ------------------------------------------------------------------ the workload


class Journal:
    """Says before a change what it may set, and after it what it did; the recorder puts it in order."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._gate = threading.Lock()
        self._last = 0

    def begin(self, sets: Sets) -> int:
        with self._gate:
            self._last += 1
            number = self._last
        self._say("begin", number, sets)
        return number

    def done(self, number: int, sets: Sets) -> None:
        self._say("done", number, sets)

    def _say(self, what: str, number: int, sets: Sets) -> None:
        os.write(self._file, (json.dumps([what, number, list(sets.items())]) + "\n").encode())


def write(directory: Path, durability: Durability, seed: int) -> None:
    journal = Journal(directory / "acks")
    store = open_store(directory / "store", durability)
    for turn in range(ROUNDS):
        threads = [
            threading.Thread(target=change, args=(store, journal, of, random.Random(f"{seed} {turn} {of}")))
            for of in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        store.touch({entry_id: Use(START_MS + turn, 2) for entry_id in range(1, 400, 7)})
        sweep(store, journal, turn)
    assert store.check() == []
    store.close()


def change(store: LmdbStore, journal: Journal, of: int, source: random.Random) -> None:
    """Stores, replaces and removes this thread's keys, while the others do so with theirs."""
    mine = range(of, KEYS, THREADS)
    for _ in range(8):
        keys = source.sample(mine, source.choice((1, 1, 2, 5)))
        if source.random() < 0.25:
            rows = [store.find(identity(key).scope, identity(key).exact_key) for key in keys]
            sets: Sets = dict.fromkeys(keys)
            number = journal.begin(sets)
            store.remove([row.id for row in rows if isinstance(row, Entry)])
        else:
            sets = {key: source.randrange(1 << 30) for key in keys}
            number = journal.begin(sets)
            store.put([draft(key, edition) for key, edition in sets.items() if edition is not None], None)
        journal.done(number, sets)


def sweep(store: LmdbStore, journal: Journal, turn: int) -> None:
    """Eviction and expiry choose by themselves; what is left is read back."""
    number = journal.begin(dict.fromkeys(range(KEYS)))
    store.evict(3)
    store.expire(START_MS + 1000 + 100 * turn, 5)
    journal.done(number, {key: edition_of(store, key) for key in range(KEYS)})


def edition_of(store: LmdbStore, key: int) -> int | None:
    row = store.find(identity(key).scope, identity(key).exact_key)
    if row is None:
        return None
    assert isinstance(row, Entry)
    return int(row.payload.response.split(b" ")[0].split(b"/")[1])


# ------------------------------------------------------------------ the record


@dataclass(frozen=True, slots=True)
class Event:
    kind: Literal["write", "sync", "truncate", "say"]
    is_dsync: bool
    offset: int
    data: bytes


def events_of(log: Path) -> list[Event]:
    head = struct.Struct("=iiqq")
    raw, at, events = log.read_bytes(), 0, []
    while at < len(raw):
        op, is_dsync, offset, length = head.unpack_from(raw, at)
        at += head.size
        kind: Literal["write", "sync", "truncate", "say"]
        match op:
            case 1:
                kind = "write"
            case 2:
                kind = "sync"
            case 4:
                kind = "say"
            case _:
                raise ValueError(f"the replay does not know operation {op}")
        data = raw[at : at + length] if op in (1, 4) else b""
        at += len(data)
        events.append(Event(kind, bool(is_dsync), offset, data))
    return events


def apply(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset + len(data):
        image.extend(bytes(offset + len(data) - len(image)))
    image[offset : offset + len(data)] = data


@dataclass(slots=True)
class Disk:
    """What is on the platter, and what is on its way there. ``late`` syncs lie: they keep only what an earlier one should have."""

    late: int = 0
    platter: bytearray = field(default_factory=bytearray)
    moving: list[Event] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def complete(self, event: Event) -> None:
        if event.kind == "write":
            if event.is_dsync and not self.late:
                apply(self.platter, event.offset, event.data)
            else:
                self.moving.append(event)
        elif event.kind == "sync":
            self.marks.append(len(self.moving))
            if len(self.marks) > self.late:
                kept = self.marks.pop(0)
                for one in self.moving[:kept]:
                    apply(self.platter, one.offset, one.data)
                del self.moving[:kept]
                self.marks = [mark - kept for mark in self.marks]

    def image(self, in_flight: Event, policy: str, source: random.Random) -> bytearray:
        """What is found after the power went while ``in_flight`` ran."""
        image = bytearray(self.platter)
        moving = [*self.moving, in_flight] if in_flight.kind == "write" else list(self.moving)
        if policy == "none":
            return image
        if policy in ("prefix", "torn_last"):
            moving = moving[: source.randint(0, len(moving))]
        for n, one in enumerate(moving):
            if policy == "subset" and source.random() < 0.5:
                continue
            is_torn = policy == "torn" or (policy == "torn_last" and n == len(moving) - 1)
            for offset, data in sectors(one) if is_torn else [(one.offset, one.data)]:
                if not is_torn or source.random() < 0.5:
                    apply(image, offset, data)
        return image


def sectors(event: Event) -> Iterator[tuple[int, bytes]]:
    at, end = event.offset, event.offset + len(event.data)
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        yield at, event.data[at - event.offset : stop - event.offset]
        at = stop


# ------------------------------------------------------------------ the verdict


@dataclass(frozen=True, slots=True)
class Allowed:
    """For each key the editions that may be there, None for absent; is anything promised at all?"""

    editions: list[set[int | None]]
    said_done: bool


def allowed(events: list[Event], durable: int, crash: int) -> Allowed:
    """What was acknowledged before ``durable`` is there, or what was begun since, before the crash."""
    state: Sets = dict.fromkeys(range(KEYS))
    pending: dict[int, Sets] = {}
    later: list[Sets] = []
    said_done = False
    for n, event in enumerate(events[: crash + 1]):
        if event.kind != "say":
            continue
        what, number, pairs = json.loads(event.data)
        if what == "begin":
            pending[number] = dict(pairs)
        elif n <= durable:
            state.update(pairs)
            del pending[number]
            said_done = True
        else:
            later.append(dict(pairs))
    editions = [{state[key]} for key in range(KEYS)]
    for sets in (*pending.values(), *later):
        for key, edition in sets.items():
            editions[key].add(edition)
    return Allowed(editions, said_done)


def durable_point(events: list[Event], crash: int, durability: Durability) -> int:
    """Sync: the crash itself. Async: the last meta page written before the last sync."""
    if durability == "sync":
        return crash
    syncs = [n for n in range(crash) if events[n].kind == "sync"]
    before = range(syncs[-1]) if syncs else range(0)
    metas = [n for n in before if events[n].kind == "write" and events[n].offset < META_END]
    return metas[-1] if metas else -1


def verdict(path: Path, durability: Durability, expected: Allowed) -> str:
    try:
        store = open_store(path, durability)
    except CacheError:
        return "refused" if expected.said_done else "fresh"
    with closing(store):
        for key, editions in enumerate(expected.editions):
            word = verdict_on(store, key, editions)
            if word != "good":
                return word
        if store.check():
            return "unclean"
        store.put([draft(NEW_KEY, 1)], None)
        is_new = verdict_on(store, NEW_KEY, {1}) == "good"
        return "good" if is_new and not store.check() else "unwritable"


def verdict_on(store: LmdbStore, key: int, editions: set[int | None]) -> str:
    row = store.find(identity(key).scope, identity(key).exact_key)
    if row is None:
        return "good" if None in editions else "lost"
    if isinstance(row, Lost):
        return "lost"
    edition = edition_of(store, key)
    if edition is None or row.payload.response != response(key, edition):
        return "wrong"
    return "good" if edition in editions else "stale"


def judged(path: Path, image: bytearray, durability: Durability, expected: Allowed) -> str:
    """The verdict, from a process that LMDB may kill."""
    path.mkdir(mode=0o700)
    (path / "data.mdb").write_bytes(image)
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            code = WORDS.index(verdict(path, durability, expected))
        except BaseException:  # noqa: BLE001 - the edge of the process
            traceback.print_exc()
            code = WORDS.index("raised")
        os._exit(code)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(path)
    return "crashed" if os.WIFSIGNALED(status) else WORDS[os.WEXITSTATUS(status)]


def judge(directory: Path, durability: Durability, seed: int, count: int, late: int) -> None:
    events = events_of(directory / "log")
    whole = bytearray()
    for event in events:
        if event.kind == "write":
            apply(whole, event.offset, event.data)
    assert whole == (directory / "store" / "data.mdb").read_bytes(), "the record is not the whole story"
    source = random.Random(seed)
    chosen = Counter(source.choices([n for n, event in enumerate(events) if event.kind != "say"], k=count))
    disk, policies = Disk(late), 0
    for n, event in enumerate(events):
        for _ in range(chosen[n]):
            policy = POLICIES[policies % len(POLICIES)]
            policies += 1
            image = disk.image(event, policy, source)
            expected = allowed(events, durable_point(events, n, durability), n)
            word = judged(directory / "image", image, durability, expected)
            sys.stdout.write(f"{policy} {word} {n}\n")
            sys.stdout.flush()
        disk.complete(event)


def main() -> None:
    directory, seed = Path(sys.argv[2]), int(sys.argv[4])
    durability: Durability = "sync" if sys.argv[3] == "sync" else "async"
    if sys.argv[1] == "write":
        write(directory, durability, seed)
    else:
        judge(directory, durability, seed, int(sys.argv[5]), int(sys.argv[6]))


if __name__ == "__main__":
    main()
