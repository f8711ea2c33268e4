"""Documents as lines of JSON, which one store exports and another imports."""

from collections.abc import AsyncGenerator, Iterable
from typing import Any

import orjson

from dialgraph.passages import StoreError
from knowledge.document import Document, Piece
from knowledge.store import Store


async def exported(store: Store) -> AsyncGenerator[bytes, None]:
    """Yield one line for each document: its name, tags, media type, and pieces with their places."""
    async for document in store.export():
        pieces = [
            {"text": one.text, "heading": one.heading, "page": one.page, "start": one.start, "end": one.end}
            for one in document.pieces or ()
        ]
        line = {"name": document.name, "tags": document.tags, "media_type": document.media_type, "pieces": pieces}
        yield orjson.dumps(line) + b"\n"


def imported(lines: Iterable[bytes]) -> list[Document]:
    """Return the documents. Raises StoreError with the number of the first line that is not valid."""
    documents = []
    for number, line in enumerate(lines, 1):
        try:
            data: dict[str, Any] = orjson.loads(line)
            pieces = tuple(
                Piece(
                    str(one["text"]),
                    str(one["heading"]),
                    int(one["page"]) if one["page"] is not None else None,
                    int(one["start"]),
                    int(one["end"]),
                )
                for one in data["pieces"]
            )
            documents.append(
                Document(data["name"], pieces=pieces, tags=tuple(data["tags"]), media_type=data["media_type"])
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise StoreError(f"Line {number} is not an exported document.") from error
    return documents
