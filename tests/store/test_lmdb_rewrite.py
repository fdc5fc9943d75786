"""A store is written anew beside itself: golden stores of older schemas, damage, another embedder, kills."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from cachesvc.adapters.lmdb_begin import target_of
from cachesvc.adapters.lmdb_lock import DirectoryLock
from cachesvc.adapters.lmdb_rewrite import Target, Told, identity_of, rewrite
from cachesvc.adapters.lmdb_schema import SCHEMA_VERSION, Tables, get, key_of, scan
from cachesvc.adapters.lmdb_store import LmdbStore, StoreOptions
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.identity import carried, identify
from cachesvc.core.selection import Selector
from cachesvc.core.types import Draft, Entry, Message, Payload, Request, Unseen, Use, Vector

GOLDEN = Path(__file__).parent.parent / "golden"
SCHEMAS = sorted(GOLDEN.glob("schema-*"))
PRINT = "old:1"
MAP = 16 << 20


def options(path: Path, max_bytes: int = MAP // 4) -> StoreOptions:
    return StoreOptions(path, MAP, max_bytes, "async", 64, 2048, 1000)


def target(fingerprint: str = PRINT, **more: Any) -> Target:
    return Target(fingerprint, MAP, 2048, "gdsf", **more)


def embed(texts: Sequence[str]) -> list[Vector | Unseen]:
    return [
        Unseen.UNKNOWN_TOKENS if "unseen" in text else np.eye(1, 4, len(text) % 4, dtype=np.float32)[0]
        for text in texts
    ]


def draft(n: int, *, prompt: str | None = None, row: bool = True) -> Draft:
    text = f"question {n}?"
    of = identify(Request("default" if n % 3 else "two", (Message("user", text),), "m", {}), PRINT)
    vector: Vector | None = np.eye(1, 4, dtype=np.float32)[0] if row else None
    payload = Payload(f"answer {n}".encode(), tags=("t",), cost_usd=0.01 * n)
    return Draft(of, payload, text if prompt is None else prompt, vector, 1000 + n, 1 << 50)


def filled(path: Path, count: int = 600) -> None:
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.put([draft(n) for n in range(count)], None)
        store.remove([5, 6])
        store.touch({10: Use(5000, 3)})
        store.forbid(Selector(tags=("x",)))


# ------------------------------------------------------------- golden stores


@pytest.mark.parametrize("golden", SCHEMAS, ids=lambda path: path.name)
def test_a_store_of_a_released_schema_opens_as_it_was(golden: Path, tmp_path: Path) -> None:
    """Every entry, vector, tag and time of a golden store is there, ids go on, and the store is clean."""
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    shutil.copy(golden / "data.mdb", path)
    expected = json.loads((golden / "expected.json").read_text())
    with closing(LmdbStore(options(path), expected["fingerprint"])) as store:
        assert store.check() == []
        assert store.stats().entries == len(expected["entries"])
        assert store.sequence() >= expected["sequence"]
        for told in expected["entries"]:
            row = store.find(bytes.fromhex(told["scope"]), bytes.fromhex(told["exact_key"]))
            assert isinstance(row, Entry)
            _assert_as_told(store, row, told)
        for gone in expected["removed"]:
            assert store.get(gone) is None
        (receipt,) = store.put([draft(1)], None)
        assert receipt is not None
        assert receipt.entry_id > max(told["id"] for told in expected["entries"])
    assert identity_of(path) is not None
    with closing(LmdbStore(options(path), expected["fingerprint"])) as store:
        assert store.stats().entries == len(expected["entries"]) + 1


def _assert_as_told(store: LmdbStore, row: Entry, told: dict[str, Any]) -> None:
    assert row.id == told["id"]
    assert (row.namespace, row.model, row.prompt) == (told["namespace"], told["model"], told["prompt"])
    assert row.context.hex() == told["context"]
    digest = hashlib.blake2b(row.payload.response, digest_size=16).hexdigest()
    assert (len(row.payload.response), digest) == (told["response_bytes"], told["response_blake2b"])
    assert list(row.payload.tags) == told["tags"]
    assert [[source.id, source.version] for source in row.payload.sources] == told["sources"]
    assert (row.created_ms, row.expires_ms) == (told["created_ms"], told["expires_ms"])
    assert dict(row.payload.metadata) == told["metadata"]
    assert (row.payload.input_tokens, row.payload.cost_usd) == (told["input_tokens"], told["cost_usd"])
    (vector,) = store.vectors(row.scope, [row.id])
    assert (vector is None) == (told["vector"] is None)
    if vector is not None:
        assert float(vector @ np.array(told["vector"], np.float32)) == pytest.approx(1, abs=1e-5)


def test_there_is_a_golden_store_of_every_schema() -> None:
    """A schema that was released has its golden store, the one in use included."""
    assert [path.name for path in SCHEMAS] == [f"schema-{n}" for n in range(1, SCHEMA_VERSION + 1)]


def test_the_old_file_stays_beside(tmp_path: Path) -> None:
    """A migration keeps the store it began with, byte for byte, and leaves nothing else behind."""
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    shutil.copy(GOLDEN / "schema-1" / "data.mdb", path)
    before = (path / "data.mdb").read_bytes()
    LmdbStore(options(path), "golden:1").close()
    assert (path / "data.mdb.before").read_bytes() == before
    assert sorted(file.name for file in path.iterdir()) == [
        *("data.mdb", "data.mdb.before", "lock.mdb", "server.lock"),
    ]


def test_an_older_store_of_another_embedder_is_refused_untouched(tmp_path: Path) -> None:
    """The command is named, and nothing is migrated for nothing."""
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    shutil.copy(GOLDEN / "schema-1" / "data.mdb", path)
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(CacheError, match="cachesvc reembed") as caught:
        LmdbStore(options(path), "other:1")
    assert caught.value.kind is Kind.INCOMPATIBLE
    assert (path / "data.mdb").read_bytes() == before


# ------------------------------------------------------------------- rebuild


def damage(path: Path, *tables: str) -> None:
    with lmdb.open(str(path), max_dbs=32, map_size=MAP) as env, env.begin(write=True) as txn:
        for name in tables:
            table = env.open_db(name.encode(), txn=txn)
            for key in [key for key, _ in scan(txn, table)][::7]:
                txn.delete(key, db=table)


@pytest.mark.parametrize(
    "tables",
    [("exact",), ("members",), ("tags",), ("expiry",), ("order",), ("firsts",), ("usage",), ("log",), ("heads",), ("vectors",),
     ("exact", "members", "tags", "expiry", "order", "firsts", "usage", "log", "heads")],
    ids=lambda tables: "+".join(tables) if len(tables) < 3 else "all of them",
)  # fmt: skip
def test_a_rebuild_mends_every_table_but_the_entries(tmp_path: Path, tables: tuple[str, ...]) -> None:
    """Whatever table lost rows, afterwards the store is clean and every entry answers."""
    path = tmp_path / "store"
    filled(path)
    damage(path, *tables)
    told = rewrite(path, target(), lambda _: None)
    assert (told.total, told.read, told.carried, told.damaged) == (598, 598, 598, 0)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.check() == []
        assert store.stats().entries == 598
        for n in range(600):
            of = draft(n).identity
            assert (store.find(of.scope, of.exact_key) is not None) == (n not in (4, 5))


def test_a_rebuild_leaves_out_what_is_damaged_itself(tmp_path: Path) -> None:
    """A record that fails its digest is not carried over, and is counted; use and epochs are kept."""
    path = tmp_path / "store"
    filled(path)
    with lmdb.open(str(path), max_dbs=32, map_size=MAP) as env, env.begin(write=True) as txn:
        entries = env.open_db(b"entries", txn=txn)
        for entry_id in (20, 30, 40):
            data = bytearray(get(txn, entries, key_of(entry_id)) or b"")
            data[len(data) // 2] ^= 4
            txn.put(key_of(entry_id), bytes(data), db=entries)
    told = rewrite(path, target(), lambda _: None)
    assert (told.carried, told.damaged) == (595, 3)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.check() == []
        assert store.get(20) is None
        assert store.epoch() == 1
        matches = store.select(Selector(), None, 1000).matches
        assert {match.entry_id: match.hits for match in matches if match.hits} == {10: 3}


# ------------------------------------------------------------------- reembed


def test_another_embedder_brings_every_prompt_over(tmp_path: Path) -> None:
    """Scopes, keys and vectors are the new embedder's; what it cannot see has the exact tier."""
    path = tmp_path / "store"
    with closing(LmdbStore(options(path), PRINT)) as store:
        unseen = draft(3, prompt="question 3?")
        store.put([draft(0), draft(1, row=False), unseen, draft(4, prompt="")], None)
    told = rewrite(path, target("new:2", embed=embed), lambda _: None)
    assert (told.carried, told.embedded, told.without_prompt) == (3, 3, 1)
    with closing(LmdbStore(options(path), "new:2")) as store:
        assert store.check() == []
        for n in (0, 1, 3):
            old = draft(n).identity
            of = carried(old.namespace, old.model, old.context, old.text, "new:2")
            row = store.find(of.scope, of.exact_key)
            assert isinstance(row, Entry)
            assert row.payload.response == f"answer {n}".encode()
            (vector,) = store.vectors(of.scope, [row.id])
            assert vector is not None
            assert vector.tolist() == embed([old.text])[0].tolist()  # type: ignore[union-attr]  # a vector
        assert store.find(draft(0).identity.scope, draft(0).identity.exact_key) is None
    with pytest.raises(CacheError):
        LmdbStore(options(path), PRINT)


def test_an_embedder_that_fails_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    """The old store goes on; another attempt goes on from where the first one ended."""
    path = tmp_path / "store"
    filled(path)
    calls: list[int] = []

    def failing(texts: Sequence[str]) -> list[Vector | Unseen]:
        calls.append(len(texts))
        if len(calls) == 2:
            raise CacheError(Kind.UNAVAILABLE, "inference failed")
        return embed(texts)

    with pytest.raises(CacheError, match="inference failed"):
        rewrite(path, target("new:2", embed=failing), lambda _: None)
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.stats().entries == 598
    told = rewrite(path, target("new:2", embed=failing), lambda _: None)
    assert told.embedded == 598
    assert sum(calls) == 598 + 256  # the round that failed was done again, those before were not
    with closing(LmdbStore(options(path), "new:2")) as store:
        assert store.stats().entries == 598
        assert store.check() == []


def cut_off(path: Path) -> None:
    """Begin to rewrite a store, and end with a part of it carried."""

    def stop(told: Told) -> None:
        if told.carried:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        rewrite(path, target(), stop)


def test_a_rewrite_begun_before_the_store_changed_begins_anew(tmp_path: Path) -> None:
    """What was copied of an older state is not gone on with."""
    path = tmp_path / "store"
    filled(path)
    cut_off(path)
    assert (path / "rewrite").exists()
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.remove([1])
        store.put([draft(1000)], None)
    told = rewrite(path, target(), lambda _: None)
    assert told.carried == 598
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.get(1) is None
        assert store.check() == []


def test_a_rewrite_begun_by_an_older_version_begins_anew(tmp_path: Path) -> None:
    """Its tables are of that version's schema, though the store is the same and unchanged since."""
    path = tmp_path / "store"
    filled(path)
    cut_off(path)
    with lmdb.open(str(path / "rewrite"), map_size=MAP, max_dbs=32, lib_version=0) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            noted = get(txn, meta, b"rewrite_of") or b""
            txn.put(b"rewrite_of", noted.partition(b":")[2], db=meta)  # of which store, without a schema
            txn.put(b"schema_version", key_of(2), db=meta)
    assert rewrite(path, target(), lambda _: None).carried == 598
    found = identity_of(path)
    assert found is not None
    assert found.schema_version == SCHEMA_VERSION
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.check() == []


def test_a_new_store_that_cannot_be_put_in_place_waits(tmp_path: Path) -> None:
    """The old store goes on, the message says why, and when it is done again nothing is embedded again."""
    path = tmp_path / "store"
    filled(path)
    calls: list[int] = []

    def counting(texts: Sequence[str]) -> list[Vector | Unseen]:
        calls.append(len(texts))
        return embed(texts)

    (path / "data.mdb.before").mkdir()
    with pytest.raises(CacheError, match=r"data\.mdb\.before could not be made") as caught:
        rewrite(path, target("new:2", embed=counting), lambda _: None)
    assert caught.value.kind is Kind.UNAVAILABLE
    with closing(LmdbStore(options(path), PRINT)) as store:
        assert store.stats().entries == 598
    (path / "data.mdb.before").rmdir()
    told = rewrite(path, target("new:2", embed=counting), lambda _: None)
    assert (told.carried, sum(calls)) == (598, 598)
    with closing(LmdbStore(options(path), "new:2")) as store:
        assert store.check() == []
    again = rewrite(path, target("new:2"), lambda _: None)
    assert again.carried == 598, "what was noted of a rewrite that ended is not taken for one begun"


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_rewrite as here
left = int(sys.argv[3])

def progress(told):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def embed(texts):
    return here.embed(texts)

here.rewrite(Path(sys.argv[1]), here.target("new:2", embed=embed), progress)
print("done")
"""


def test_killed_at_every_step_it_goes_on(tmp_path: Path) -> None:
    """Killed after each round of a rewrite, the old store is whole; done again, the new one is."""
    path = tmp_path / "store"
    filled(path)
    done = False
    for kills in range(1, 20):
        command = [sys.executable, "-c", _KILLED, str(path), str(Path(__file__).parent), str(min(kills, 3))]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if run.returncode == 0:
            done = True
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        found = identity_of(path)
        assert found is not None
        assert found.fingerprint == PRINT
    assert done
    with closing(LmdbStore(options(path), "new:2")) as store:
        assert store.check() == []
        assert store.stats().entries == 598


def test_a_locked_store_is_left_alone(tmp_path: Path) -> None:
    """The lock that servers take keeps a rewrite's caller out as well."""
    path = tmp_path / "store"
    with closing(LmdbStore(options(path), PRINT)), pytest.raises(CacheError) as caught:
        DirectoryLock(path)
    assert caught.value.kind is Kind.LOCKED


_SWAP = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_lmdb_rewrite as here
path = Path(sys.argv[1])

def tell(event, arguments):
    if event == "os.rename" and str(arguments[1]) == str(path / "data.mdb"):
        print("renamed", flush=True)
    if event == "open" and str(arguments[0]) == str(path):
        print("directory", flush=True)

sys.addaudithook(tell)
here.rewrite(path, here.target(), lambda _: None)
"""


def test_a_store_in_its_place_stays_there(tmp_path: Path) -> None:
    """The directory is synced after the rename, so that a power cut does not bring the old store back."""
    filled(tmp_path / "store", 10)
    run = subprocess.run(
        [sys.executable, "-c", _SWAP, str(tmp_path / "store"), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout.split()[-2:] == ["renamed", "directory"], run.stderr


def test_a_backup_is_a_store(tmp_path: Path) -> None:
    """Taken while writes go on, it opens, is clean, and holds what was there."""
    path, copy = tmp_path / "store", tmp_path / "copy"
    filled(path)
    copy.mkdir()
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.backup(copy)
        store.put([draft(2000)], None)
    with closing(LmdbStore(options(copy), PRINT)) as store:
        assert store.check() == []
        assert store.stats().entries == 598
    assert target_of(options(path), PRINT).fingerprint == PRINT


def test_tables_of_an_older_store_may_be_missing(tmp_path: Path) -> None:
    """Reading an older store creates nothing in it."""
    shutil.copy(GOLDEN / "schema-1" / "data.mdb", tmp_path)
    with lmdb.open(str(tmp_path), readonly=True, lock=False, max_dbs=32) as env, env.begin() as txn:
        assert Tables(env, 0, txn).members is None


def test_a_store_killed_while_it_was_created_is_new(tmp_path: Path) -> None:
    """An empty file is what a kill in the first moments leaves: it opens as a new store."""
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    (path / "data.mdb").touch()
    with closing(LmdbStore(options(path), PRINT)) as store:
        store.put([draft(1)], None)
        assert store.check() == []
