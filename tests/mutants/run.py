"""Applies each mutant of the table to a copy of the tree and runs its tests, which must fail.

``python -m tests.mutants.run [NAME]``. Prints a line each, with the test that failed, so that it can be seen
whether it was the right one, and at the end how many were found; exits 1 when one was not, or when the tests
fail without any, which is tried first.
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
    if not wanted:
        sys.stdout.write(f"no mutant has {sys.argv[1]!r} in its name\n")
        return 1
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
        for tests in dict.fromkeys(mutant.tests for mutant in wanted):
            code, last = _run(tree, tests)
            if code:
                sys.stdout.write(f"{' '.join(tests)} fail without any mutant: {last}\n")
                return 1
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
        code, last = _run(tree, mutant.tests)
    finally:
        file.write_text(text)
    # 1: tests failed. 124: they hang, which a build would not pass either.
    found = code in (1, 124)
    took_s = time.monotonic() - started_s
    by = last.removeprefix("FAILED ").partition(" - ")[0] if code == 1 else last
    sys.stdout.write(
        f"{'found' if found else 'SURVIVED'}     {mutant.name} ({took_s:.0f} s, exit {code}: {by})\n"
    )
    sys.stdout.flush()
    return found


def _run(tree: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """The exit code, and the test that failed or else the last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", *tests]
    try:
        run = subprocess.run(
            command,
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},  # over an editable install, for child processes too
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, "they hang"
    lines = run.stdout.splitlines() or [""]
    return run.returncode, next((line for line in lines if line.startswith("FAILED ")), lines[-1])


if __name__ == "__main__":
    raise SystemExit(main())
