"""Where compiled embedding engines are kept, found and made.

A model (any SentenceTransformer directory or name) is compiled once, in a subprocess, into a
directory of its own: ``model.onnx`` with its weights, ``tokenizer.json`` and ``manifest.json``. Its name holds the
digest of the model's files, so another model, or a changed one, is another engine. The serving
process reads engines only: it never imports torch.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cachesvc.adapters.model_files import model_digest, model_directory
from cachesvc.core.errors import CacheError, Kind

# Raise it when the compiler makes other engines from the same model.
RECIPE_VERSION = 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an engine is. ``window_tokens`` counts the special tokens; ``prefix`` goes before each text."""

    fingerprint: str
    dimension: int
    window_tokens: int
    prefix: str


@dataclass(frozen=True, slots=True)
class Engine:
    """A compiled engine on disk."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Compiler:
    """A program that makes an engine of a model, and the setting that names the model, for messages."""

    module: str = "cachesvc.adapters.onnx_compiler"
    setting: str = "embedder.model"


EMBEDDERS = Compiler()
CROSS_ENCODERS = Compiler("cachesvc.adapters.cross_encoder_compiler", "verifier.model")


def find_engine(model: str, precision: str, cache_dir: Path) -> Engine | None:
    """The compiled engine of a model, or None when it has yet to be compiled.

    ``model`` may also be the directory of a compiled engine. Raises INCOMPATIBLE for an engine that
    this version cannot read.
    """
    if (Path(model) / "manifest.json").is_file():
        return _read(Path(model))
    source = model_directory(model)
    if source is not None:
        path = cache_dir / _engine_name(model_digest(source), precision)
    else:
        alias = cache_dir / _alias_name(model, precision)
        if not alias.is_file():
            return None
        path = cache_dir / alias.read_text().strip()
    return _read(path) if (path / "manifest.json").is_file() else None


def compile_engine(
    model: str,
    precision: str,
    cache_dir: Path,
    progress: Callable[[str], None],
    compiler: Compiler = EMBEDDERS,
) -> Engine:
    """Compile a model in a subprocess and keep it; the engine that is there already is left alone.

    Takes half a minute or so; ``progress`` is told each step. Raises UNAVAILABLE with what to install
    or what the compiler said.
    """
    if importlib.util.find_spec("sentence_transformers") is None:
        raise CacheError(
            Kind.UNAVAILABLE,
            f"{compiler.setting} {model!r} is not compiled yet and compiling needs more packages: "
            "pip install 'cachesvc[compile]', then run: cachesvc compile-model",
        )
    try:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".compiling-", dir=cache_dir))
    except OSError as error:
        raise _unwritable(cache_dir, error) from None
    try:
        source = model_directory(model)
        _run_compiler(compiler.module, str(source or model), precision, work, progress)
        digest = json.loads((work / "manifest.json").read_text())["model_digest"]
        path = cache_dir / _engine_name(digest, precision)
        try:
            work.rename(path)
        except OSError:
            if not (path / "manifest.json").is_file():  # else somebody else was first
                raise
        _write_alias(cache_dir, model, precision, path.name)
    except OSError as error:
        raise _unwritable(cache_dir, error) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _read(path)


def write_manifest(path: Path, manifest: Manifest, model: str, precision: str, digest: str) -> None:
    """For compilers: say in the engine's directory what it is, and what it was made of."""
    fields = {
        "recipe_version": RECIPE_VERSION,
        **asdict(manifest),
        "model_digest": digest,
        "model": model,
        "precision": precision,
    }
    (path / "manifest.json").write_text(json.dumps(fields, indent=2))


def _unwritable(cache_dir: Path, error: OSError) -> CacheError:
    return CacheError(Kind.UNAVAILABLE, f"embedder.cache_dir {cache_dir} cannot be written: {error.strerror}")


def _engine_name(digest: str, precision: str) -> str:
    return f"{digest[:32]}-{precision}-r{RECIPE_VERSION}"


def _alias_name(model: str, precision: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", model)[:64]
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:8]}-{precision}-r{RECIPE_VERSION}.alias"


def _write_alias(cache_dir: Path, model: str, precision: str, engine_name: str) -> None:
    alias = cache_dir / _alias_name(model, precision)
    temporary = alias.with_suffix(f".{os.getpid()}")
    temporary.write_text(engine_name)
    temporary.replace(alias)


def _read(path: Path) -> Engine:
    try:
        fields = json.loads((path / "manifest.json").read_text())
        if fields["recipe_version"] != RECIPE_VERSION:
            raise CacheError(
                Kind.INCOMPATIBLE,
                f"the engine at {path} was compiled by another version: run cachesvc compile-model",
            )
        manifest = Manifest(
            fields["fingerprint"], fields["dimension"], fields["window_tokens"], fields["prefix"]
        )
    except (OSError, ValueError, KeyError):
        raise CacheError(
            Kind.CORRUPT, f"the engine at {path} cannot be read: remove it and run cachesvc compile-model"
        ) from None
    return Engine(path, manifest)


def _run_compiler(
    module: str, source: str, precision: str, out: Path, progress: Callable[[str], None]
) -> None:
    command = [sys.executable, "-P", "-m", module, source, precision, str(out)]
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as compiler:  # noqa: S603 - our own program
            for step in _lines(compiler):
                progress(step)
        if compiler.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines()
            raise CacheError(
                Kind.UNAVAILABLE,
                f"compiling {source} failed: {said[-1] if said else f'exit {compiler.returncode}'}",
            )


def _lines(compiler: "subprocess.Popen[str]") -> Iterator[str]:
    assert compiler.stdout is not None
    for line in compiler.stdout:
        if line.startswith("step: "):
            yield line.removeprefix("step: ").strip()
