"""A sealed record opens as what it is, where it belongs, with every bit as it was; else not at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesvc.adapters.lmdb_records import BadRecordError, EntryBody, Head, LogRecord, Sealer

KEY = bytes(range(32))
quick = settings(deadline=None, derandomize=True, database=None, max_examples=40)

places = st.binary(min_size=1, max_size=48)
bodies = st.builds(
    EntryBody,
    namespace=st.text(max_size=8),
    model=st.text(max_size=8),
    context=st.binary(min_size=32, max_size=32),
    exact_key=st.binary(min_size=32, max_size=32),
    prompt=st.text(max_size=40),
    response=st.one_of(st.binary(max_size=40), st.integers(100, 400).map(lambda n: b"ab" * n)),
    content_type=st.text(max_size=8),
    metadata=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
    tags=st.lists(st.text(max_size=4), max_size=2),
    sources=st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=2),
    input_tokens=st.integers(0, 1 << 53),
    output_tokens=st.integers(0, 1 << 53),
    cost_usd=st.floats(0, 1e6),
    created_ms=st.integers(0, 1 << 50),
    expires_ms=st.integers(0, 1 << 50),
)
heads = st.builds(
    Head,
    scope=st.binary(min_size=32, max_size=32),
    exact_key=st.binary(min_size=32, max_size=32),
    namespace=st.text(max_size=8),
    model=st.text(max_size=8),
    tags=st.lists(st.text(max_size=4), max_size=2),
    sources=st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.text(max_size=4)), max_size=2),
    created_ms=st.integers(0, 1 << 50),
    expires_ms=st.integers(0, 1 << 50),
    sliding_ms=st.integers(0, 1 << 50),
    latest_ms=st.integers(0, 1 << 50),
    used_ms=st.integers(0, 1 << 50),
    hits=st.integers(0, 1 << 50),
    rank=st.floats(0, 1e9),
    worth_usd=st.floats(0, 1e6),
    size_bytes=st.integers(0, 1 << 40),
    semantic=st.booleans(),
)
logs = st.builds(LogRecord, st.binary(min_size=32, max_size=32), st.integers(1, 1 << 50), st.booleans())
records = st.one_of(bodies, heads, logs)
sealers = st.sampled_from([Sealer(KEY, 0), Sealer(KEY, 200), Sealer(KEY, 1 << 30)])


def opens(sealer: Sealer, kind: type[EntryBody | Head | LogRecord], place: bytes, sealed: bytes) -> bool:
    try:
        sealer.open(kind, place, sealed)
    except BadRecordError:
        return False
    return True


@quick
@given(record=records, place=places, sealer=sealers)
def test_a_record_opens_as_it_was_sealed(
    record: EntryBody | Head | LogRecord, place: bytes, sealer: Sealer
) -> None:
    """Whatever its size and whether it was compressed, and by a sealer with another size in its settings."""
    sealed = sealer.seal(record, place)
    assert sealer.open(type(record), place, sealed) == record
    assert Sealer(KEY, 7).open(type(record), place, sealed) == record


@quick
@given(record=records, place=places, sealer=sealers)
def test_no_record_opens_with_a_bit_flipped(
    record: EntryBody | Head | LogRecord, place: bytes, sealer: Sealer
) -> None:
    """Every single bit counts: of the frame, the body and the digest."""
    sealed = sealer.seal(record, place)
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not opens(sealer, type(record), place, bytes(flipped)), f"bit {bit} of {len(sealed) * 8}"


@quick
@given(record=records, place=places, sealer=sealers)
def test_no_record_opens_cut_short_or_longer(
    record: EntryBody | Head | LogRecord, place: bytes, sealer: Sealer
) -> None:
    """Bytes missing at either end, or added, are noticed; so is nothing at all."""
    sealed = sealer.seal(record, place)
    for size in range(len(sealed)):
        assert not opens(sealer, type(record), place, sealed[:size])
    assert not opens(sealer, type(record), place, sealed[1:])
    assert not opens(sealer, type(record), place, sealed + b"\0")


@quick
@given(record=records, place=places, other=places, sealer=sealers)
def test_no_record_opens_at_another_place(
    record: EntryBody | Head | LogRecord, place: bytes, other: bytes, sealer: Sealer
) -> None:
    """A record copied under another key is not what belongs there."""
    sealed = sealer.seal(record, place)
    for wrong in (other, place + b"\0", b"\0" + place, place[:-1], place[::-1]):
        assert opens(sealer, type(record), wrong, sealed) == (wrong == place)


@quick
@given(record=records, place=places)
def test_no_record_opens_as_another_kind_or_with_another_key(
    record: EntryBody | Head | LogRecord, place: bytes
) -> None:
    """A head is no log record, and another store's record is not ours."""
    sealer = Sealer(KEY, 200)
    sealed = sealer.seal(record, place)
    kinds: tuple[type[EntryBody | Head | LogRecord], ...] = (EntryBody, Head, LogRecord)
    assert [opens(sealer, kind, place, sealed) for kind in kinds] == [kind is type(record) for kind in kinds]
    assert not opens(Sealer(bytes(32), 200), type(record), place, sealed)


@quick
@given(seed=st.integers(0, 1 << 30), place=places, other=places)
def test_no_vector_opens_with_a_bit_flipped_or_elsewhere(seed: int, place: bytes, other: bytes) -> None:
    """A vector comes back in half precision and of unit norm, writable, or not at all."""
    sealer = Sealer(KEY, 200)
    vector = np.random.default_rng(seed).normal(size=12).astype(np.float32)
    vector /= np.linalg.norm(vector)
    sealed = sealer.sealed_vector(sealer.pack_vector(vector), place)
    opened = sealer.open_vector(place, sealed)
    assert abs(float(opened @ vector) - 1) < 1e-6
    assert abs(float(opened @ opened) - 1) < 1e-6
    assert opened.flags.writeable
    for bit in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadRecordError):
            sealer.open_vector(place, bytes(flipped))
    if other != place:
        with pytest.raises(BadRecordError):
            sealer.open_vector(other, sealed)


@pytest.mark.parametrize(
    ("least_bytes", "compressed"),
    [
        pytest.param(0, True, id="always"),
        pytest.param(1000, True, id="above"),
        pytest.param(1 << 20, False, id="below"),
    ],
)
def test_large_records_are_compressed(least_bytes: int, *, compressed: bool) -> None:
    """A record at least as large as the setting is smaller on disk; others are as they are."""
    record = LogRecord(b"s" * 50_000, 1, added=True)
    sealed = Sealer(KEY, least_bytes).seal(record, b"p")
    assert (len(sealed) < 1000) == compressed


def test_what_does_not_compress_is_left_as_it_is() -> None:
    """Random bytes are stored as they came, a frame longer and no more."""
    record = LogRecord(np.random.default_rng(5).bytes(5000), 1, added=True)
    plain, packed = (len(Sealer(KEY, least).seal(record, b"p")) for least in (1 << 20, 0))
    assert packed == plain
