"""What the tests of damaged stores share: how the store is opened, and what is in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cachesvc.adapters.lmdb_begin import StoreOptions
from cachesvc.adapters.lmdb_store import LmdbStore
from cachesvc.core.identity import identify
from cachesvc.core.types import Draft, Entry, Message, Payload, Request

PRINT = "engine:test"


def options(path: Path) -> StoreOptions:
    return StoreOptions(path, 8 << 20, 4 << 20, "sync", 64, 2048, 1000)


def quarantining(path: Path) -> StoreOptions:
    return replace(options(path), on_corruption="quarantine")


def draft(n: int) -> Draft:
    of = identify(Request("default", (Message("user", f"q{n}"),), "m", {}), PRINT)
    return Draft(of, Payload(f"answer {n}".encode() * 50), of.text, np.full(4, 0.5, np.float32), n, 1 << 50)


def is_there(store: LmdbStore, n: int) -> bool:
    return isinstance(store.find(draft(n).identity.scope, draft(n).identity.exact_key), Entry)
