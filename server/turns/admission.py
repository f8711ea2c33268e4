"""The permission to run a turn: its user, and the tokens charged to their budgets."""

from collections.abc import Sequence

from dialgraph.users.accounts.accounts import Identity
from server.turns.ledger import Charge


class Admission:
    """The permission to run one turn."""

    def __init__(self, identity: Identity | None = None, charges: Sequence[Charge] = ()) -> None:
        self.identity = identity
        """The user; None for every other principal."""
        self.charges = tuple(charges)
        """The charges that are given back if the turn does not run."""

    def take_charges(self) -> tuple[Charge, ...]:
        """Return the charges. From then on the code that called this must settle them."""
        charges, self.charges = self.charges, ()
        return charges
