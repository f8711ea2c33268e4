"""A function that opens a store of any engine for a test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dialgraph.project import ROOT
from dialgraph.storage.database import Database
from knowledge.embedders.embed import Embedder, HashingEmbedder
from knowledge.store import Store, StoreConfig, open_store

SAMPLE = ROOT / "knowledge" / "sample"


@asynccontextmanager
async def opened(
    folder: Path,
    url: str = "faiss:",
    *,
    database: str = "sqlite:",
    name: str = "main",
    embedder: Embedder | None = None,
    **options: Any,
) -> AsyncIterator[Store]:
    """Open a store whose database is in this folder. Close both at the end."""
    rows = Database(database, folder)
    store = open_store(StoreConfig(name, url, rows, folder / "knowledge", embedder or HashingEmbedder(), **options))
    try:
        yield store
    finally:
        await store.aclose()
        await rows.aclose()
