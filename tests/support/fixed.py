"""A world in which nothing happens by chance: the clock stands, and ids count."""


class FixedEnvironment:
    """See dialgraph.environment."""

    def __init__(self) -> None:
        self._ids = 0

    def now(self) -> float:
        """Always the same."""
        return 1000.0

    def date(self) -> float:
        """Always the same."""
        return 1_700_000_000.0

    def id(self, prefix: str = "", digits: int = 32) -> str:
        """The next number."""
        self._ids += 1
        return f"{prefix}{self._ids:0{digits}x}"

    def chance(self) -> float:
        """Always the same."""
        return 0.5
