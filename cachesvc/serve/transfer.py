"""Export and import on the wire: entries ↔ records. What comes in is checked as a Store is."""

from collections.abc import Callable, Iterator

import numpy as np

from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.types import Payload, Vector
from cachesvc.engine.move import Exported, Incoming, Tally
from cachesvc.serve.checks import Check, parse
from cachesvc.serve.requests import RequestReader
from cachesvc.serve.wire import fill_entry, fill_time
from cachesvc.v1 import admin_pb2 as pb
from cachesvc.v1 import cache_pb2

FORMAT_VERSION = 1
_DIGEST_BYTES = 32


def export_record(exported: Exported) -> pb.ExportRecord:
    """An entry as a record."""
    record = pb.ExportRecord()
    entry = exported.entry
    fill_entry(record.entry.entry, entry)
    record.entry.namespace = entry.namespace
    record.entry.context = entry.context
    record.entry.exact_key = entry.exact_key
    record.entry.semantic = exported.semantic
    if entry.sliding_ms:
        record.entry.sliding.FromMilliseconds(entry.sliding_ms)
        fill_time(record.entry.latest_time, entry.latest_ms)
    if exported.vector is not None:
        record.entry.vector = exported.vector.astype("<f4").tobytes()
    return record


class ImportReader:
    """Reads the records of one import: a header, then entries, then a trailer that counts them."""

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._header: pb.ExportHeader | None = None
        self._count = 0

    def entries(
        self, requests: Iterator[bytes], wanted: Callable[[], bool]
    ) -> Iterator[Incoming | CacheError]:
        """Entries in order; one that is wrong is an error in its place. Raises INVALID for a wrong stream."""
        ended = False
        for data in requests:
            if not wanted():
                raise CacheError(Kind.UNAVAILABLE, "the caller is gone, or the server is stopping")
            record = parse(pb.ImportRequest, data).record
            kind = record.WhichOneof("kind")
            if (kind == "header") != (self._header is None) or ended:
                raise CacheError.invalid("record", "must be a header, then entries, then one trailer")
            match kind:
                case "header":
                    self._header = self._checked(record.header)
                case "entry":
                    self._count += 1
                    yield self._incoming(record.entry)
                case "trailer":
                    ended = True
                    if record.trailer.entries != self._count:
                        raise CacheError.invalid(
                            "record.trailer",
                            f"counts {record.trailer.entries} entries, {self._count} came: some are missing",
                        )
                case _:
                    raise CacheError.invalid("record", "must be a header, an entry or a trailer")
        if not ended:
            raise CacheError.invalid("record", "the trailer is missing: the export was cut off")

    def _checked(self, header: pb.ExportHeader) -> pb.ExportHeader:
        if header.format_version != FORMAT_VERSION:
            raise CacheError.invalid(
                "record.header.format_version",
                f"is {header.format_version}; this version reads {FORMAT_VERSION}",
            )
        return header

    def _incoming(self, record: pb.ExportedEntry) -> Incoming | CacheError:
        assert self._header is not None
        entry, check = record.entry, Check()
        if not record.namespace:
            check.wrong("namespace", "is missing")
        check.namespace(record.namespace)
        for name, value in (("context", record.context), ("exact_key", record.exact_key)):
            if len(value) != _DIGEST_BYTES:
                check.wrong(name, f"must have {_DIGEST_BYTES} bytes")
        if len(record.vector) % 4:
            check.wrong("vector", "must be float32 values of 4 bytes each")
        if len(entry.prompt.encode()) > self._reader.limits.prompt_bytes:
            check.wrong("entry.prompt", f"must have at most {self._reader.limits.prompt_bytes} bytes")
        for name in ("create_time", "expire_time"):
            if not entry.HasField(name):  # type: ignore[arg-type]  # the stub lists the names it knows
                check.wrong(f"entry.{name}", "is missing")
        created_ms = check.time_ms("entry.create_time", entry.create_time)
        expires_ms = check.time_ms("entry.expire_time", entry.expire_time)
        sliding_ms, latest_ms = 0, 0
        if record.HasField("sliding"):
            sliding_ms = check.duration_ms("sliding", record.sliding, least_ms=1)
            latest_ms = check.time_ms("latest_time", record.latest_time)
        payload = self._payload(entry, check)
        try:
            check.done()
        except CacheError as error:
            return error
        return Incoming(
            namespace=record.namespace,
            model=entry.model,
            context=record.context,
            exact_key=record.exact_key,
            prompt=entry.prompt,
            payload=payload,
            vector=_vector(record.vector),
            semantic=record.semantic,
            created_ms=created_ms,
            expires_ms=expires_ms,
            sliding_ms=sliding_ms,
            latest_ms=latest_ms,
            fingerprint=self._header.fingerprint,
        )

    def _payload(self, entry: cache_pb2.Entry, check: Check) -> Payload:
        """Checked by the rules of a Store, whose fields it has."""
        as_store = cache_pb2.StoreRequest(
            response=entry.response,
            content_type=entry.content_type,
            metadata=entry.metadata,
            tags=entry.tags,
            sources=entry.sources,
            usage=entry.usage,
            cost_usd=entry.cost_usd,
            model=entry.model,
        )
        check.name("entry.model", entry.model)
        return self._reader.payload(as_store, check)


def import_response(tally: Tally) -> pb.ImportResponse:
    """Progress."""
    return pb.ImportResponse(
        read=tally.read,
        stored=tally.stored,
        unchanged=tally.unchanged,
        expired=tally.expired,
        failed=tally.failed,
        errors=tally.errors,
    )


def _vector(data: bytes) -> Vector | None:
    return np.frombuffer(data, dtype="<f4").astype(np.float32) if data else None
