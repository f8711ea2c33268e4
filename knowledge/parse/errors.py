"""Why a file cannot be read, in a sentence for the person who sent it."""


class ParseError(Exception):
    """The file's fault. The message says what is wrong, and names no path."""
