"""What every request goes through: bytes → message, and a list of everything that is wrong with it."""

import math
import re
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from cachesvc.core.errors import CacheError, Kind, Violation
from cachesvc.core.policy import DEFAULT

NAME_BYTES = 256  # model, journey, request_id, keys
TAG_BYTES = 128

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ENTRY_ID = re.compile(r"[0-9a-f]{16}")
_TEN_YEARS_MS = 315_360_000_000
_LAST_SECOND = 253_402_300_799  # of the year 9999, with which a Timestamp ends

_M = TypeVar("_M", bound=ProtoMessage)


class Check:
    """Gathers what is wrong with one message."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def wrong(self, field: str, description: str) -> None:
        """A field is wrong, and what would be right."""
        self._violations.append(Violation(field, description))

    def done(self) -> None:
        """Raises INVALID when anything was wrong."""
        if self._violations:
            raise CacheError(
                Kind.INVALID,
                "; ".join(f"{v.field}: {v.description}" for v in self._violations[:8]),
                tuple(self._violations),
            )

    def namespace(self, value: str) -> str:
        """A namespace; the default one for none."""
        if value and not _NAMESPACE.fullmatch(value):
            self.wrong(
                "namespace",
                "must be lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit, "
                "at most 63 characters",
            )
        return value or DEFAULT

    def entry_id(self, field: str, value: str) -> int:
        """The id of an entry."""
        if not _ENTRY_ID.fullmatch(value):
            self.wrong(field, "must be an entry id: 16 hexadecimal digits, as in LookupResponse.entry.id")
            return 0
        return int(value, 16)

    def name(self, field: str, value: str) -> None:
        """A short printable string, or none."""
        if value and (len(value.encode()) > NAME_BYTES or not value.isprintable()):
            self.wrong(field, f"must have at most {NAME_BYTES} bytes of printable text")

    def tag(self, field: str, value: str) -> None:
        """A tag."""
        if not value or len(value.encode()) > TAG_BYTES or not value.isprintable():
            self.wrong(field, f"must have 1 to {TAG_BYTES} bytes of printable text")

    def source_id(self, field: str, value: str, value_bytes: int) -> None:
        """The id of a source."""
        if not 1 <= len(value.encode()) <= value_bytes:
            self.wrong(field, f"must have 1 to {value_bytes} bytes (limits.value_bytes)")

    def duration_ms(self, field: str, value: Duration, least_ms: int) -> int:
        """A duration from ``least_ms`` to ten years, in milliseconds."""
        # A Duration's parts have one sign, and its nanos are less than a second (duration.proto).
        if abs(value.nanos) >= 1_000_000_000 or value.seconds * value.nanos < 0:
            self.wrong(field, "is not a valid Duration")
            return 0
        milliseconds = value.seconds * 1000 + math.floor(value.nanos / 1e6)
        if not least_ms <= milliseconds <= _TEN_YEARS_MS:
            self.wrong(field, f"must be a duration of {least_ms / 1000:g} seconds to ten years")
        return milliseconds

    def time_ms(self, field: str, value: Timestamp) -> int:
        """An instant from 1970 to the end of 9999, in milliseconds since the epoch."""
        if not 0 <= value.nanos < 1_000_000_000 or not 0 <= value.seconds <= _LAST_SECOND:
            self.wrong(field, "must be a time from 1970 to 9999")
            return 0
        return value.seconds * 1000 + value.nanos // 1_000_000


def parse(kind: type[_M], data: bytes) -> _M:
    """Parse a message. Raises INVALID, naming the string that is not UTF-8 when that is the reason."""
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        field = _not_utf8(kind.DESCRIPTOR, data)
        if field is None:
            raise CacheError(
                Kind.INVALID, f"the request is not a {kind.DESCRIPTOR.full_name} message"
            ) from None
        raise CacheError.invalid(field, "is not valid UTF-8") from None
    return message


def _not_utf8(descriptor: Any, data: bytes) -> str | None:
    """The path of the first string field that is not UTF-8, read from the raw wire format."""
    raw = Empty()
    try:
        raw.ParseFromString(data)
    except DecodeError:
        return None
    for unknown in UnknownFieldSet(raw):  # type: ignore[attr-defined]  # iterable, but its stub does not say
        field = descriptor.fields_by_number.get(unknown.field_number)
        if field is None or unknown.wire_type != 2:  # length-delimited
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            try:
                unknown.data.decode()
            except UnicodeDecodeError:
                return str(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = _not_utf8(field.message_type, unknown.data)
            if inner is not None:
                return f"{field.name}.{inner}"
    return None
