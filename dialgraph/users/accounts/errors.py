"""What can be wrong with an account; each message is for its user."""


class AccountError(Exception):
    """What was asked for is not possible."""


class NameTakenError(AccountError):
    """Somebody has the name."""


class InvalidAccountError(AccountError):
    """A name or password that cannot be one."""


class WrongPasswordError(AccountError):
    """Name and password do not go together; which of them is wrong is not told."""


class UnknownUserError(AccountError):
    """There is nobody of this name."""


class GoneUserError(AccountError):
    """Whoever asks was deleted or disabled a moment ago."""


class BusyError(AccountError):
    """More passwords wait to be looked at than can be in good time."""
