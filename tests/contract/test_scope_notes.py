"""Notes of which scopes were in memory: what was saved last, or nothing; never something else."""

from pathlib import Path

import pytest

from cachesvc.adapters.memory import MemoryNotes
from cachesvc.adapters.scope_notes import NoteFile
from cachesvc.core.errors import CacheError, Kind
from cachesvc.core.ports import ScopeNotes
from cachesvc.core.warming import ScopeNote

KEY = b"k" * 32
FEW = [ScopeNote(bytes([n]) * 32, n, 100 * n) for n in (3, 1, 2)]


@pytest.fixture(params=["file", "memory"])
def notes(request: pytest.FixtureRequest, tmp_path: Path) -> ScopeNotes:
    """Each implementation in turn, empty."""
    return NoteFile(tmp_path / "scopes.recent", KEY) if request.param == "file" else MemoryNotes()


def test_what_was_saved_last_is_loaded_in_its_order(notes: ScopeNotes) -> None:
    """Nothing at first; then each time all of the last."""
    assert notes.load() == []
    notes.save(FEW)
    assert notes.load() == FEW
    notes.save(FEW[1:])
    notes.save(FEW[:1])
    assert notes.load() == FEW[:1]
    notes.save([])
    assert notes.load() == []


def test_damage_is_as_good_as_none(tmp_path: Path) -> None:
    """Any flipped bit, any shortening, anything added, another store's key: nothing is loaded, and nothing raised."""
    path = tmp_path / "scopes.recent"
    held = NoteFile(path, KEY)
    held.save(FEW)
    whole = path.read_bytes()
    flipped = [whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :] for at in range(len(whole))]
    for bad in [*flipped, *(whole[:at] for at in range(len(whole))), whole + b"\0"]:
        path.write_bytes(bad)
        assert held.load() == []
    path.write_bytes(whole)
    assert NoteFile(path, b"x" * 32).load() == []
    assert held.load() == FEW


def test_what_another_version_sealed_is_as_good_as_none(tmp_path: Path) -> None:
    """Its digest fits, and its values do not."""
    path = tmp_path / "scopes.recent"
    held = NoteFile(path, KEY)
    held.save([ScopeNote("a scope", 1, 1)])  # type: ignore[arg-type]  # which is what it is about
    assert held.load() == []


def test_a_note_that_cannot_be_written_leaves_the_last(tmp_path: Path) -> None:
    """FULL, the file as it was, and no part left behind."""
    path = tmp_path / "scopes.recent"
    held = NoteFile(path, KEY)
    held.save(FEW)
    part = path.with_suffix(".part")
    part.mkdir()  # in the way of what is to be written
    with pytest.raises(CacheError) as caught:
        held.save(FEW[:1])
    assert caught.value.kind is Kind.FULL
    assert held.load() == FEW
    part.rmdir()
    held.save(FEW[:1])
    assert held.load() == FEW[:1]
    assert list(tmp_path.iterdir()) == [path]
