"""What a database can fail with, without the weight of the library that it is reached through."""


class DatabaseError(Exception):
    """The database cannot be opened. The message is for the operator, never for a caller."""
