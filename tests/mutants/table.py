"""Bugs that the tests must find: each is one change of the code, and the tests that must then fail."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """``old`` stands exactly once in ``file``; with ``new`` in its place ``tests`` must turn red."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "acknowledges before the commit",
        "cachesvc/adapters/lmdb_writer.py",
        '                self._failpoint("store.before_commit")\n',
        "                for job, result in zip(group, results, strict=True):\n"
        "                    _settle(job, result=result)\n"
        "                __import__('time').sleep(0.01)\n"
        '                self._failpoint("store.before_commit")\n',
        ("tests/crash", "-k", "before_commit"),
    ),
    Mutant(
        "commits without a sync",
        "cachesvc/adapters/lmdb_open.py",
        "            metasync=metasync,\n",
        "            sync=False,\n",
        ("tests/power",),
    ),
    Mutant(
        "puts a store in place without a sync of its directory",
        "cachesvc/adapters/lmdb_rewrite.py",
        '    (path / "lock.mdb").unlink(missing_ok=True)\n    lmdb_open.sync(path)\n',
        '    (path / "lock.mdb").unlink(missing_ok=True)\n',
        ("tests/store/test_lmdb_rewrite.py",),
    ),
    Mutant(
        "lets forked children use the store",
        "cachesvc/adapters/lmdb_store.py",
        "        os.register_at_fork(after_in_child=partial(_forsake, weakref.ref(self)))\n",
        "",
        ("tests/store/test_lmdb_begin.py",),
    ),
    Mutant(
        "moves a store of another embedder aside",
        "cachesvc/adapters/lmdb_begin.py",
        "error.kind is not Kind.CORRUPT or ",
        "",
        ("tests/store/test_lmdb_begin.py",),
    ),
    Mutant(
        "leaves the slots of readers that died",
        "cachesvc/adapters/lmdb_store.py",
        "            self._env.reader_check()  # slots",
        "            pass  # slots",
        ("tests/store/test_lmdb_begin.py",),
    ),
    Mutant(
        "trusts a disk that failed once",
        "cachesvc/adapters/lmdb_writer.py",
        "                self._failed = True\n                _refuse(group)\n",
        "                _refuse(group)\n",
        ("tests/store/test_lmdb_eio.py",),
    ),
    Mutant(
        "does not look at digests",
        "cachesvc/adapters/lmdb_records.py",
        " or mac != self._mac(name, place, framed)",
        "",
        ("tests/store/test_lmdb_damage.py",),
    ),
    Mutant(
        "digests do not cover the place",
        "cachesvc/adapters/lmdb_records.py",
        "mac = blake2b(place, digest_size=MAC_BYTES",
        "mac = blake2b(b'', digest_size=MAC_BYTES",
        ("tests/store/test_lmdb_damage.py",),
    ),
    Mutant(
        "scopes without the system prompt and earlier turns",
        "cachesvc/core/identity.py",
        "_encode([namespace, model, dict(vary), turns])",
        "_encode([namespace, model, dict(vary)])",
        ("tests/core/test_identity.py",),
    ),
    Mutant(
        "scopes without what must match exactly",
        "cachesvc/core/identity.py",
        "_encode([namespace, model, dict(vary), turns])",
        "_encode([namespace, model, turns])",
        ("tests/core/test_identity.py",),
    ),
    Mutant(
        "scopes without the namespace",
        "cachesvc/core/identity.py",
        "_encode([namespace, model, dict(vary), turns])",
        "_encode([model, dict(vary), turns])",
        ("tests/core/test_identity.py",),
    ),
    Mutant(
        "lifetimes by the wall clock",
        "cachesvc/adapters/clock.py",
        "return self._start_ms + (time.clock_gettime_ns(_ELAPSED) - self._boot_ns) // 1_000_000",
        "return time.time_ns() // 1_000_000",
        ("tests/contract/test_clock.py",),
    ),
    Mutant(
        "searches without the index's lock",
        "cachesvc/adapters/faiss_index.py",
        "        with self._lock.shared():\n            rows = self._rows\n            found",
        "        if True:\n            rows = self._rows\n            found",
        ("tests/contract/test_indexes.py",),
    ),
    Mutant(
        "what is removed while an index moves comes back",
        "cachesvc/adapters/faiss_index.py",
        "n not in self._removed for",
        "True for",
        ("tests/contract/test_growing_indexes.py",),
    ),
    Mutant(
        "gives ids again",
        "cachesvc/adapters/lmdb_write.py",
        "            NEXT_ID: key_of(self._next_id),\n",
        "            NEXT_ID: key_of(self._next_id if self._txn.stat(self._tables.heads)['entries'] else 1),\n",
        ("tests/contract/test_stores.py",),
    ),
    Mutant(
        "removals are not logged",
        "cachesvc/adapters/lmdb_write.py",
        "        self._log(head.scope, entry_id, added=False)\n",
        "",
        ("tests/contract/test_stores.py",),
    ),
    Mutant(
        "snapshots without their digest",
        "cachesvc/adapters/snapshot_files.py",
        "if sealed != mac:",
        "if not sealed:",
        ("tests/contract/test_snapshots.py",),
    ),
    Mutant(
        "snapshots of a past that was left",
        "cachesvc/adapters/snapshot_files.py",
        "None if header is None else self._sessions_ago(header)",
        "0",
        ("tests/contract/test_snapshots.py",),
    ),
    Mutant(
        "errors with the text of exceptions",
        "cachesvc/serve/edge.py",
        "internal error {error_id}; the server's log has more",
        "internal error {error}",
        ("tests/service/test_edge.py",),
    ),
    Mutant(
        "prompts in the log",
        "cachesvc/engine/guard.py",
        'TaskFailed("embed", Kind.INTERNAL, type(error).__name__)',
        'TaskFailed("embed", Kind.INTERNAL, str(error))',
        ("tests/trouble/test_canary.py",),
    ),
    Mutant(
        "stores what was invalidated meanwhile",
        "cachesvc/adapters/lmdb_write.py",
        "        if draft.epoch is not None and self._is_banned(draft, draft.epoch):\n            return None\n",
        "",
        ("tests/contract/test_stores.py",),
    ),
    Mutant(
        "invalidates without forbidding",
        "cachesvc/engine/curate.py",
        "        self._store.forbid(selector)\n",
        "",
        ("tests/engine/test_curate.py",),
    ),
    Mutant(
        "does not look for what was stored during an invalidation",
        "cachesvc/engine/curate.py",
        "            count += self._forbid_and_remove(selector, new_id, shown, walk)\n",
        "",
        ("tests/engine/test_curate.py",),
    ),
    Mutant(
        "items of a batch begin one after the other",
        "cachesvc/engine/admit.py",
        "epoch=begun.epoch if ticket",
        "epoch=self._store.epoch() if ticket",
        ("tests/engine/test_curate.py",),
    ),
    Mutant(
        "callers may loosen the threshold",
        "cachesvc/core/policy.py",
        "max(policy.min_score, asked)",
        "asked if ask.min_score is not None else policy.min_score",
        ("tests/core/test_policy.py",),
    ),
    Mutant(
        "serves what was built from another version",
        "cachesvc/core/policy.py",
        "    if terms.sources and not _is_current(row, terms.sources):\n        return Outcome.MISS_SOURCE_CHANGED\n",
        "",
        ("tests/engine/test_lookup.py",),
    ),
    Mutant(
        "names may end in a line break",
        "cachesvc/serve/checks.py",
        '_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")',
        '_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\\n?")',
        ("tests/trouble/test_bad_input.py",),
    ),
    Mutant(
        "takes start-only settings from a reload",
        "cachesvc/reload.py",
        "        if fixed:\n",
        "        if not fixed and changed == [None]:\n",
        ("tests/service/test_reload.py",),
    ),
    Mutant(
        "begins what nobody waits for",
        "cachesvc/engine/guard.py",
        "            if queue is not None and job in queue:\n",
        "            if queue is None and job is None:\n",
        ("tests/engine/test_guard.py",),
    ),
    Mutant(
        "quotas are not kept",
        "cachesvc/adapters/lmdb_write.py",
        "            if entries_fit and (quota.max_bytes is None or usage.size_bytes <= quota.max_bytes):\n",
        "            if usage.entries:\n",
        ("tests/contract/test_stores.py",),
    ),
    Mutant(
        "entries of other namespaces can be got by id",
        "cachesvc/engine/admit.py",
        '        """An entry of a namespace that has not expired, or None; a damaged one is dropped and None."""\n'
        "        if self._store.namespace_of(entry_id) != namespace:\n            return None\n",
        "",
        ("tests/engine/test_admit.py",),
    ),
    Mutant(
        "expired entries are served",
        "cachesvc/core/policy.py",
        "    if row.expires_ms <= terms.now_ms:\n        return Outcome.MISS_EXPIRED\n",
        "",
        ("tests/engine/test_lookup.py",),
    ),
    Mutant(
        "an import takes vectors as they come",
        "cachesvc/engine/move.py",
        "        if abs(float(vector @ vector) - 1) > _UNIT_TOLERANCE:\n",
        "        if abs(float(vector @ vector) - 1) > 1e9:\n",
        ("tests/service/test_transfer.py",),
    ),
    Mutant(
        "begins inferences that end too late",
        "cachesvc/engine/guard.py",
        "            if job.until_s < now_s + self._took_s and not tried:",
        "            if job.until_s < 0 and not tried:",
        ("tests/engine/test_guard.py",),
    ),
    Mutant(
        "refuses calls that keep to their streams",
        "cachesvc/serve/grpc_server.py",
        '("grpc.http.overload_protection", 0)',
        '("grpc.http.overload_protection", 1)',
        ("tests/trouble/test_admission.py",),
    ),
    Mutant(
        "turns stores away",
        "cachesvc/serve/door.py",
        '_LOOKUPS = ("Lookup", "BatchLookup")',
        '_LOOKUPS = ("Lookup", "BatchLookup", "Store")',
        ("tests/service/test_door.py",),
    ),
)
