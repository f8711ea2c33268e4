"""Finds the kind of a file by its content. The name is used only to distinguish kinds of text."""

from knowledge.parse.errors import ParseError

ACCEPTED = "txt, md, html, csv, docx, pdf, pptx, xlsx"
MEDIA_TYPES = {
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_BINARY = (
    b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf",
    b"Rar!", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"{\\rtf", b"SQLite format 3", b"RIFF", b"OggS", b"ID3",
)  # fmt: skip
_HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body")
_TEXT_SUFFIXES = {
    "md": "md", "markdown": "md", "html": "html", "htm": "html", "xhtml": "html", "csv": "csv", "tsv": "csv",
}  # fmt: skip


def kind_of(data: bytes, name: str) -> str:
    """Return a key of MEDIA_TYPES, or `zip` for an Office file, whose parts decide the kind. Raises ParseError."""
    if data.startswith(b"%PDF-"):
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return "zip"
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise ParseError("The file is protected by a password.")
        raise ParseError("The file has an old Office format. Save it as docx, pptx or xlsx.")
    if data.startswith(_BINARY):
        raise ParseError(f"Unsupported kind of file. Accepted: {ACCEPTED}.")
    if data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_STARTS):
        return "html"
    return _TEXT_SUFFIXES.get(name.rpartition(".")[2].lower(), "txt")
