"""An environment without chance: the clock does not move, and ids are numbers that count up."""


class FixedEnvironment:
    """The `Environment` of the path, with fixed values."""

    def __init__(self) -> None:
        self._ids = 0

    def now(self) -> float:
        """Return 1000 seconds, always."""
        return 1000.0

    def date(self) -> float:
        """Return the same date always, in seconds since 1970."""
        return 1_700_000_000.0

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """Return the prefix and the next number, in hexadecimal."""
        self._ids += 1
        return f"{prefix}{self._ids:0{digits}x}"

    def chance(self) -> float:
        """Return 0.5, always."""
        return 0.5
