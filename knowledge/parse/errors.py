"""The error that says why a file cannot be read, in a sentence for the person who sent it."""


class ParseError(Exception):
    """The file is at fault. The message says what is wrong and contains no path."""
