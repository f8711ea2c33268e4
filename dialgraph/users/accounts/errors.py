"""Errors of accounts. Each message is for the user."""


class AccountError(Exception):
    """The request about an account is not possible."""


class NameTakenError(AccountError):
    """The name is already in use."""


class InvalidAccountError(AccountError):
    """A name, a password or another value is not allowed."""


class WrongPasswordError(AccountError):
    """The name or the password is wrong. The error does not say which of the two."""


class UnknownUserError(AccountError):
    """There is no user with this name."""


class GoneUserError(AccountError):
    """The user who sent the request was deleted or disabled a moment ago."""


class BusyError(AccountError):
    """Too many passwords wait to be checked."""
