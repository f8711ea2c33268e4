"""Errors of the database. Does not import the database library."""


class DatabaseError(Exception):
    """The database cannot be opened. The message is for the operator, never for a caller."""


class DatabaseAwayError(DatabaseError):
    """The database does not answer now: it is locked, stopped or out of connections. It may answer later."""


class DatabaseFullError(DatabaseError):
    """The database has no space left for new data. The existing data can still be read."""
