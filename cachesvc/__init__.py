"""cachesvc: a semantic response cache that runs beside an LLM application.

Importing this package imports nothing heavy; the clients load when first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import cachesvc.aio as aio  # noqa: PLR0402 - through from, mypy asks __getattr__
    from cachesvc.client import Client as Client

__version__ = "0.1.0"
__all__ = ["Client", "__version__", "aio"]


def __getattr__(name: str) -> Any:
    """Load ``Client`` and ``aio`` on first use (PEP 562)."""
    if name == "Client":
        return import_module("cachesvc.client").Client
    if name == "aio":
        return import_module("cachesvc.aio")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
