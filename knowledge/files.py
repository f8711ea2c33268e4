"""Paths → the files they stand for, each under the name by which it is known."""

from pathlib import Path

from dialgraph.passages import StoreError
from knowledge.document import Document

SUFFIXES = frozenset(".txt .md .markdown .html .htm .csv .tsv .docx .pdf .pptx .xlsx".split())
"""Of files that are taken from a folder, hidden ones left out; a file that is named itself is read in any case."""


def files_at(paths: list[Path]) -> dict[str, Path]:
    """The files at these paths by name; a folder stands for all that it holds, in a fixed order. Raises StoreError."""
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise StoreError(f"{str(path)!r} does not exist.")
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_document(path, file))
            if not files:
                raise StoreError(f"{str(path)!r} holds no document. Accepted: {', '.join(sorted(SUFFIXES))}.")
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            if name in found:
                raise StoreError(f"Two documents are named {name!r}. Index their common folder, or rename one.")
            found[name] = file
    return found


def read_texts(folder: Path) -> list[Document]:
    """The Markdown files of a folder of ours."""
    return [
        Document(name, file.read_text(encoding="utf-8"), media_type="text/markdown")
        for name, file in files_at([folder]).items()
    ]


def _is_document(folder: Path, file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.suffix.lower() in SUFFIXES and not hidden and file.is_file()
