"""Bytes → text: UTF-8, UTF-16, GB18030, and what Windows writes in western Europe.

charset-normalizer reads more encodings, but mistook French and Spanish Windows text for Czech in half of our samples.
"""

import codecs

from knowledge.parse.errors import ParseError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE = 65_536
# In Chinese prose, two of three characters are in this set. In western bytes read as GB18030, hardly any are.
_COMMON = frozenset(
    "，。、；：？！的一是了我不人在他有这个上们来到时大地为子中你说生国年着就那和要她出也得里后自以会家可下而过天去能对小多然于心学"
    "么之都好看起发当没成只如事把还用第样道想作种开美总从无情己面最但现前些所同日手又行意动方期它头经长回位分因很给名法间知世什两"
    "次使身者被高已其进此话常与活正见明问力理点文几定本公特做外相果走将月十实向全信重三机工物气每并别真打新比才便再书部水像等体加"
    "电主界利受听表少代员先口由安性或住教命结更处让应直字场平报关放至接告入内民度路带万边解任金快原变通师立数四失满远格目条始达深"
    "完今提求清化空业思切找片钱语元科言流约各即指合反题必该论交终请制决传保读运及则房早院量品近产答视五管类未台北落形周识步术留市"
    "半送造容极随收首根讲整式取照办强计装双转称领节站断城故历选包紧争另建维系示持准联基买志复消社算你好"
)


def text_of(data: bytes) -> str:
    """Return the text, with its line ends unchanged. Raises ParseError if the data is not text."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decoded(data, encoding)
    if encoding := _unmarked_utf16(data[:_SAMPLE]):
        return _decoded(data, encoding)
    if b"\0" in data:
        raise ParseError("The file is not text.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        chinese = data.decode("gb18030")
    except UnicodeDecodeError:
        chinese = ""
    other = [character for character in chinese[:200_000] if character > "\x7f"]
    if other and sum(character in _COMMON for character in other) / len(other) > 0.15:
        return chinese
    return data.decode("cp1252", errors="replace")


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ParseError(
            f"The file begins as {encoding.removesuffix('-sig')}, but a later part is not valid."
        ) from error


def _unmarked_utf16(sample: bytes) -> str:
    """Return the UTF-16 encoding of a text without a byte order mark, or an empty string.

    The high half of each pair of bytes is mostly zero (Latin) or has few different values (Chinese).
    """
    pairs = len(sample) // 2
    if pairs < 2:
        return ""
    even, odd = sample[0 : 2 * pairs : 2], sample[1 : 2 * pairs : 2]
    for high, low, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if high.count(0) > 0.3 * pairs and low.count(0) < 0.05 * pairs:
            return encoding
        if b"\0" in sample and _chinese_share(high) > 0.95 and _chinese_share(high) - _chinese_share(low) > 0.2:
            return encoding
    return ""


def _chinese_share(half: bytes) -> float:
    return sum(0x4E <= value <= 0x9F or value in (0, 3, 4, 0x30, 0xFF) for value in half) / len(half)
