"""The child process: the file on standard input, its name as an argument, frames of pieces on standard output.

It is run by path and isolated (`python -I`), so that it imports nothing from the parent's environment or folder.
"""

import codecs
import contextlib
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from knowledge.parse.docx import of_docx
from knowledge.parse.errors import ParseError
from knowledge.parse.frames import write_end, write_error, write_kind, write_pieces
from knowledge.parse.limits import give_up_everything
from knowledge.parse.package import Package
from knowledge.parse.pdf import of_pdf
from knowledge.parse.pptx import of_pptx
from knowledge.parse.sniff import kind_of
from knowledge.parse.texts import text_blocks
from knowledge.parse.xlsx import of_xlsx
from knowledge.passages.analyse import analysed_pieces, unit_vectors
from knowledge.passages.blocks import Block
from knowledge.passages.chunk import pieces

# Readers load a codec at its first use. That is too late: by then no file can be opened.
_CODECS = """ascii big5 charmap cp1252 cp437 cp932 cp949 cp950 euc_jp euc_kr gb18030 gb2312 gbk hz idna iso2022_jp
    iso2022_kr latin_1 mac_roman shift_jis utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le utf_8_sig"""
_WARM = Path(__file__).with_name("warm.pdf")
_OFFICE = {"docx": of_docx, "pptx": of_pptx, "xlsx": of_xlsx}


def blocks_of(data: bytes, name: str) -> tuple[str, list[Block]]:
    """Return the kind of the file, and its blocks. Raises ParseError."""
    kind = kind_of(data, name)
    if kind == "zip":
        package = Package(data)
        kind, part = package.main_part()
        return kind, _OFFICE[kind](package, part)
    if kind == "pdf":
        return kind, of_pdf(data)
    return kind, text_blocks(data, kind)


def main() -> None:
    """Load everything that is needed, receive the file, give up all rights, and write the frames of the file."""
    name, from_units = sys.argv[1:3]
    out = sys.stdout.buffer
    with contextlib.redirect_stderr(io.StringIO()):
        for codec in _CODECS.split():
            codecs.lookup(codec)
        of_pdf(_WARM.read_bytes())
        vectors_of = unit_vectors(from_units)
        data = sys.stdin.buffer.read()
        give_up_everything()
        try:
            kind, blocks = blocks_of(data, name)
            found = list(pieces(blocks))
            if not found:
                raise ParseError("The file holds no text.")
            write_kind(out, kind, len(found))
            for batch in analysed_pieces(found, vectors_of):
                write_pieces(out, batch)
            write_end(out)
        except ParseError as error:
            write_error(out, str(error))
        except MemoryError:
            write_error(out, "Reading the file needs more memory than is allowed.")
        except RecursionError:
            write_error(out, "The file is nested too deeply.")
        except Exception:  # noqa: BLE001  # any other error of a reader means that the file is damaged
            write_error(out, "The file is damaged.")


if __name__ == "__main__":
    main()
