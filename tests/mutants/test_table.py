"""The table of seeded bugs keeps up with the code, which ``make test-mutants`` would otherwise find out late."""

from pathlib import Path

import pytest

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_stands_once(mutant: Mutant) -> None:
    """The text that a mutant replaces stands exactly once in its file, and its tests exist."""
    assert (ROOT / mutant.file).read_text().count(mutant.old) == 1
    assert (ROOT / mutant.tests[0]).exists()
