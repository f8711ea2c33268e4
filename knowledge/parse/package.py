"""Office files as a zip of XML parts. Every limit is checked before bytes are unpacked.

python-docx, python-pptx and openpyxl were measured for comparison. They are six times slower, and they lose text boxes,
footnotes and inserted text. On bombs that are refused here immediately, they run out of memory or never end
(docs/decisions).
"""

import io
import posixpath
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple
from xml.parsers import expat

from knowledge.parse.errors import ParseError
from knowledge.parse.limits import TEXT_CHARACTERS

_ENTRIES = 5_000
_PART_BYTES = 64 * 2**20
_ALL_BYTES = 128 * 2**20
_DIRECTORY_BYTES = 2 * 2**20
_DEPTH = 200
_ELEMENTS = 3_000_000
_KINDS = {"wordprocessingml.document": "docx", "presentationml": "pptx", "spreadsheetml.sheet": "xlsx"}

Start = Callable[[str, Mapping[str, str]], None]
"""Called with an element and its attributes, without their namespaces; `r:id` is `rid`."""
End = Callable[[str], None]
Text = Callable[[str], None]
TOO_LARGE = "The file is too large when unpacked."
_DAMAGED = "The file is damaged."


class Relation(NamedTuple):
    """A reference from one part to another part of the file."""

    kind: str
    target: str


class Package:
    """An Office file. Every part that is read counts towards its limits."""

    def __init__(self, data: bytes) -> None:
        end = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_557))
        if end < 0:
            raise ParseError(_DAMAGED)
        # This comes before zipfile builds the directory in memory.
        entries = int.from_bytes(data[end + 10 : end + 12], "little")
        if entries > _ENTRIES or int.from_bytes(data[end + 12 : end + 16], "little") > _DIRECTORY_BYTES:
            raise ParseError(TOO_LARGE)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ParseError(_DAMAGED) from error
        names = [entry.filename for entry in self._zip.infolist()]
        if len(names) != len(set(names)) or len(names) > _ENTRIES:
            raise ParseError(_DAMAGED)
        if any(entry.flag_bits & 1 for entry in self._zip.infolist()):
            raise ParseError("The file is protected by a password.")
        self._unpacked = 0
        self._elements = 0
        self._characters = 0

    def has(self, part: str | None) -> bool:
        """Return whether the file has this part."""
        return part is not None and part in self._zip.NameToInfo

    def main_part(self) -> tuple[str, str]:
        """Return the kind (`docx`, `pptx`, `xlsx`) and the name of the part that holds the document.

        Raises ParseError.
        """
        for relation in self.relations("").values():
            if relation.kind == "officeDocument":
                return self._kind(relation.target), relation.target
        raise ParseError("The file is a zip without an Office document. Accepted: docx, pptx, xlsx.")

    def relations(self, part: str) -> dict[str, Relation]:
        """Return what the part refers to, by id. References to the outside are left out and never fetched."""
        folder, name = posixpath.split(part)
        listed = posixpath.join(folder, "_rels", f"{name}.rels")
        found: dict[str, Relation] = {}

        def start(tag: str, given: Mapping[str, str]) -> None:
            if tag == "Relationship" and given.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, given.get("Target", ""))).lstrip("/")
                found[given.get("Id", "")] = Relation(given.get("Type", "").rpartition("/")[2], target)

        if self.has(listed):
            self.read(listed, start)
        return found

    def read(self, part: str, start: Start, end: End | None = None, text: Text | None = None) -> None:
        """Parse the part, and call the functions with its elements and text. Raises ParseError."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        depth = 0

        def refuse(*_: object) -> None:
            raise ParseError("The file declares XML entities, which are not accepted.")

        def on_start(tag: str, given: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            self._elements += 1
            if depth > _DEPTH or self._elements > _ELEMENTS:
                raise ParseError(TOO_LARGE)
            start(tag.rpartition(" ")[2], {_attribute(name): value for name, value in given.items()})

        def on_end(tag: str) -> None:
            nonlocal depth
            depth -= 1
            if end is not None:
                end(tag.rpartition(" ")[2])

        parser.StartDoctypeDeclHandler = refuse
        parser.EntityDeclHandler = refuse
        parser.StartElementHandler = on_start
        parser.EndElementHandler = on_end
        if text is not None:
            parser.CharacterDataHandler = text
        try:
            for data in self._unpack(part):
                parser.Parse(data, False)
            parser.Parse(b"", True)
        except (expat.ExpatError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ParseError(_DAMAGED) from error

    def count(self, text: str) -> str:
        """Return the text unchanged and count it. Raises ParseError if the file has given too much text."""
        self._characters += len(text)
        if self._characters > TEXT_CHARACTERS:
            raise ParseError(TOO_LARGE)
        return text

    def _unpack(self, part: str) -> Iterator[bytes]:
        if not self.has(part):
            raise ParseError("The file is incomplete: a part is missing.")
        entry = self._zip.getinfo(part)
        self._unpacked += entry.file_size
        if entry.file_size > _PART_BYTES or self._unpacked > _ALL_BYTES:
            raise ParseError(TOO_LARGE)
        with self._zip.open(entry) as file:  # it stops at the declared size, and checks the checksum
            while data := file.read(65_536):
                yield data

    def _kind(self, part: str) -> str:
        types: dict[str, str] = {}

        def start(tag: str, given: Mapping[str, str]) -> None:
            if tag == "Override":
                types[given.get("PartName", "").lstrip("/")] = given.get("ContentType", "")

        self.read("[Content_Types].xml", start)
        media_type = types.get(part, "")
        if "macroEnabled" in media_type:
            raise ParseError("The file holds macros. Save it without them, as docx, pptx or xlsx.")
        for mark, kind in _KINDS.items():
            if mark in media_type:
                return kind
        raise ParseError("Unsupported kind of file. Accepted: docx, pptx, xlsx.")


def _attribute(name: str) -> str:
    namespace, _, local = name.rpartition(" ")
    return "rid" if local == "id" and namespace.endswith("/relationships") else local
