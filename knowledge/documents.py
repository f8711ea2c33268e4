"""Files → documents → passages. Text and Markdown; each passage knows the heading it stands under."""

from pathlib import Path

from knowledge.store import Document, StoreError

SUFFIXES = (".md", ".txt")


def read_documents(paths: list[Path]) -> list[Document]:
    """The text files at these paths; a folder stands for all that it holds, in a fixed order."""
    documents: list[Document] = []
    for path in paths:
        if not path.exists():
            raise StoreError(f"{str(path)!r} does not exist.")
        files = (
            sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
            if path.is_dir()
            else [path]
        )
        if not files or files[0].suffix not in SUFFIXES:
            raise StoreError(f"{str(path)!r} holds no document. Accepted: {', '.join(SUFFIXES)}.")
        for file in files:
            name = str(file.relative_to(path)) if path.is_dir() else file.name
            if any(document.name == name for document in documents):
                raise StoreError(f"Two documents are named {name!r}. Index their common folder, or rename one.")
            try:
                documents.append(Document(name, file.read_text(encoding="utf-8-sig")))
            except UnicodeDecodeError:
                raise StoreError(f"{name!r} is not UTF-8 text.") from None
    return documents
