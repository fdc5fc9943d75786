"""Applies each mutant of the table to a copy of the tree and runs its tests, which must fail.

``python -m tests.mutants.run [NAME]``. Prints a line each, and at the end how many were found; exits 1 when
one was not, or when the tests fail without any.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
_LIMIT_S = 300
_COPIED = (
    "cachesvc",
    "tests",
    "bench",
    "docs",
    "protos",
    "pyproject.toml",
    "README.md",
    "deploy",
    "Makefile",
)


def main() -> int:
    """See the module."""
    wanted = [mutant for mutant in MUTANTS if not sys.argv[1:] or sys.argv[1] in mutant.name]
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        tree.mkdir()
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(
                    source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
                )
            elif source.exists():
                shutil.copy(source, tree / name)
        survivors = [mutant for mutant in wanted if not _is_found(tree, mutant)]
    sys.stdout.write(f"{len(wanted) - len(survivors)} of {len(wanted)} seeded bugs found\n")
    return int(bool(survivors))


def _is_found(tree: Path, mutant: Mutant) -> bool:
    file = tree / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        sys.stdout.write(
            f"MISSING   {mutant.name}: its text stands {text.count(mutant.old)} times in {mutant.file}\n"
        )
        return False
    started_s = time.monotonic()
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        code = _run(tree, mutant.tests)
    finally:
        file.write_text(text)
    # 1: tests failed. 124: they hang, which a build would not pass either.
    found = code in (1, 124)
    took_s = time.monotonic() - started_s
    sys.stdout.write(f"{'found' if found else 'SURVIVED'}     {mutant.name} ({took_s:.0f} s, exit {code})\n")
    sys.stdout.flush()
    return found


def _run(tree: Path, tests: tuple[str, ...]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        run = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},  # over an editable install, for child processes too
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124
    return run.returncode


if __name__ == "__main__":
    raise SystemExit(main())
