"""What each namespace holds, kept in step with the changes of one write transaction."""

import lmdb

from cachesvc.adapters.lmdb_records import BadRecordError, Head, Sealer, Usage
from cachesvc.adapters.lmdb_schema import Tables, get, integer, scan


class Accounts:
    """The usage table as one job sees it. A damaged account is counted anew from the entries."""

    def __init__(self, txn: lmdb.Transaction, tables: Tables, sealer: Sealer) -> None:
        self._txn = txn
        self._tables = tables
        self._sealer = sealer
        self._held: dict[bytes, Usage | None] = {}  # None: not known, to be counted

    def add(self, head: Head, sign: int) -> None:
        """An entry came (+1) or went (-1): to be told once its rows are."""
        namespace = head.namespace.encode()
        usage = self._known(namespace)
        if usage is not None:  # else it is counted when it is asked for, or at the end
            self._held[namespace] = Usage(usage.entries + sign, usage.size_bytes + sign * head.size_bytes)

    def of(self, namespace: bytes) -> Usage:
        """What a namespace holds now."""
        usage = self._known(namespace)
        if usage is None:
            usage = self._held[namespace] = self._counted(namespace)
        return usage

    def doubt(self, namespace: bytes) -> None:
        """Something went whose size is not known."""
        self._held[namespace] = None

    def write(self) -> None:
        """Put what changed into the table."""
        for namespace in list(self._held):
            usage = self.of(namespace)
            if usage.entries:
                self._txn.put(namespace, self._sealer.seal(usage, namespace), db=self._tables.usage)
            else:
                self._txn.delete(namespace, db=self._tables.usage)

    def _known(self, namespace: bytes) -> Usage | None:
        if namespace not in self._held:
            sealed = get(self._txn, self._tables.usage, namespace)
            try:
                known = Usage(0, 0) if sealed is None else self._sealer.open(Usage, namespace, sealed)
            except BadRecordError:
                known = None
            self._held[namespace] = known
        return self._held[namespace]

    def _counted(self, namespace: bytes) -> Usage:
        """Slow and rare."""
        entries = size_bytes = 0
        prefix = namespace + b"\0"
        for place, _ in scan(self._txn, self._tables.members, prefix):
            if not place.startswith(prefix):
                break
            try:
                head = self._tables.head(self._txn, self._sealer, integer(place[-8:]))
            except BadRecordError:
                continue
            if head is not None:
                entries, size_bytes = entries + 1, size_bytes + head.size_bytes
        return Usage(entries, size_bytes)
