"""Blocks → pieces, each found as one passage. The same blocks give the same pieces on every machine."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dialgraph.language.sentences import place_to_cut, sentences
from dialgraph.language.words import HAN
from knowledge.document import Piece
from knowledge.passages.blocks import Block, of_text

MOST_TOKENS = 240
"""The most tokens of a piece. Small embedding models read 256 tokens and ignore the rest."""
_ENOUGH_TOKENS = 60
"""A paragraph with fewer is joined with its neighbours under the same heading."""
_OVERLAP_TOKENS = 40
"""How much of the previous piece is repeated where one paragraph had to be cut."""
_TOKEN = re.compile(rf"[{HAN}\u3040-\u30ff\uac00-\ud7af]|\w+|[^\w\s]")
_LONGEST_PART = 600
_PART_TOKENS = 150
"""The most characters and tokens of a part that has no end of a sentence."""


class _Part(NamedTuple):
    text: str
    tokens: int
    page: int | None
    start: int
    end: int


def token_count(text: str) -> int:
    """Return about how many tokens a model's tokeniser makes: one for a Han character, 1.3 for a Latin word."""
    found: list[str] = _TOKEN.findall(text)
    return len(found) + sum(len(token) > 6 and token.isascii() for token in found) // 2


def pieces_of(text: str) -> list[Piece]:
    """Return the pieces of plain text or Markdown."""
    return list(pieces(of_text(text)))


def pieces(blocks: Iterable[Block]) -> Iterator[Piece]:
    """Yield pieces that stay under one heading, end with a sentence or a row, and know their place."""
    path: list[str] = []
    waiting: list[Block] = []
    bare: Block | None = None
    """A heading that has no text under it yet."""
    for block in blocks:
        if block.level:
            if bare is not None and block.level <= bare.level:
                yield _alone(bare, path)
            yield from _under(path, waiting)
            waiting = []
            path = [*path[: block.level - 1], *[""] * (block.level - 1 - len(path)), block.text]
            bare = block
        elif block.text.strip():
            waiting.append(block)
            bare = None
    if bare is not None:
        yield _alone(bare, path)
    yield from _under(path, waiting)


def _alone(heading: Block, path: list[str]) -> Piece:
    """Return the piece of a heading that has no text under it."""
    return Piece(heading.text, " › ".join(filter(None, path[:-1])), heading.page, heading.start, heading.end)


def _under(path: list[str], blocks: list[Block]) -> Iterator[Piece]:
    """Yield the pieces under one heading."""
    heading = " › ".join(filter(None, path))
    held: list[_Part] = []
    size = 0
    for block in blocks:
        parts = _parts(block)
        whole = sum(part.tokens for part in parts)
        if (held and size + whole > MOST_TOKENS) or (
            size >= _ENOUGH_TOKENS and not (block.row and held_rows(held, block))
        ):
            yield _piece(heading, held)
            held, size = [], 0
        for part in parts:
            if held and size + part.tokens > MOST_TOKENS:
                yield _piece(heading, held)
                held = _tail(held) if not block.row else []
                size = sum(part.tokens for part in held)
            held.append(part)
            size += part.tokens
    if held:
        yield _piece(heading, held)


def held_rows(held: list[_Part], block: Block) -> bool:
    """Return whether the held parts are rows of the same table as this row."""
    return bool(held) and held[-1].start == block.start


def _parts(block: Block) -> list[_Part]:
    """Return the sentences of a block, or a whole row.

    Text without the end of a sentence is cut at commas or white space.
    """
    if block.row and token_count(block.text) <= MOST_TOKENS:
        return [_Part(block.text + "\n", token_count(block.text), block.page, block.start, block.end)]
    parts: list[_Part] = []
    at = 0
    span = max(block.end - block.start, 1)
    for sentence in sentences(block.text):
        rest = sentence
        while rest:
            cut = _place_to_cut(rest)
            part, rest = rest[:cut], rest[cut:]
            # White space was folded, so a place within a block can only be estimated, in proportion.
            start = block.start + at * span // max(len(block.text), 1)
            at += len(part)
            end = block.start + at * span // max(len(block.text), 1)
            parts.append(_Part(part, token_count(part), block.page, start, end))
    if parts:
        parts[-1] = parts[-1]._replace(text=parts[-1].text.rstrip() + "\n")
    return parts


def _place_to_cut(text: str) -> int:
    """Return where the part ends.

    This is the end of the text if it is short, else a comma or white space, else the limit.
    """
    if token_count(text[: 2 * _LONGEST_PART]) <= _PART_TOKENS and len(text) <= 2 * _LONGEST_PART:
        return len(text)
    longest = _LONGEST_PART if text[:_LONGEST_PART].isascii() else _PART_TOKENS
    if comma := max(text.rfind(mark, longest // 3, longest) for mark in "，、；：") + 1:
        return comma
    return place_to_cut(text, longest) or min(len(text), longest)


def _tail(held: list[_Part]) -> list[_Part]:
    """Return the last sentences, which the next piece repeats; never all of them."""
    kept: list[_Part] = []
    for part in reversed(held[1:]):
        if sum(one.tokens for one in kept) + part.tokens > _OVERLAP_TOKENS:
            break
        kept.insert(0, part)
    return kept


def _piece(heading: str, parts: list[_Part]) -> Piece:
    text = "".join(part.text for part in parts).strip()
    return Piece(text, heading, parts[0].page, parts[0].start, max(part.end for part in parts))
