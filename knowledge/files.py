"""Paths → files, each with the name of its document."""

from pathlib import Path

from dialgraph.passages import StoreError
from knowledge.document import Document

SUFFIXES = frozenset(".txt .md .markdown .html .htm .csv .tsv .docx .pdf .pptx .xlsx".split())
"""The files that are taken from a folder, except hidden ones. A file that is named directly is always read."""


def files_at(paths: list[Path]) -> dict[str, Path]:
    """Return the files at these paths by document name. A folder gives all its documents, sorted. Raises StoreError."""
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise StoreError(f"{str(path)!r} does not exist.")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_document(path, file))
            if not files:
                raise StoreError(f"{str(path)!r} contains no supported file. Accepted: {', '.join(sorted(SUFFIXES))}.")
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            if name in found:
                raise StoreError(f"Two documents are named {name!r}. Index their common folder, or rename one.")
            found[name] = file
    return found


def read_texts(folder: Path) -> list[Document]:
    """Return the Markdown files of one of our own folders as documents."""
    return [
        Document(name, file.read_text(encoding="utf-8"), media_type="text/markdown")
        for name, file in files_at([folder]).items()
    ]


def _is_document(folder: Path, file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()
