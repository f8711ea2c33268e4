"""What a database can fail with, without the weight of the library that it is reached through."""


class DatabaseError(Exception):
    """The database cannot be opened. The message is for the operator, never for a caller."""


class DatabaseAwayError(DatabaseError):
    """The database does not answer now: it is locked, stopped or out of connections. Later it may."""


class DatabaseFullError(DatabaseError):
    """There is no room for what was to be written; what is there can be read."""
