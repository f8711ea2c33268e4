"""That a turn may run: whose it is, and what his budgets were charged for it."""

from collections.abc import Sequence

from dialgraph.users.accounts.accounts import Identity
from server.turns.ledger import Charge


class Admission:
    """Of one turn."""

    def __init__(self, identity: Identity | None = None, charges: Sequence[Charge] = ()) -> None:
        self.identity = identity
        """The user; None for a key of the operator's."""
        self.charges = tuple(charges)
        """What is given back when the turn does not run."""

    def take_charges(self) -> tuple[Charge, ...]:
        """Take over what was charged: whoever takes it sees that it is settled."""
        charges, self.charges = self.charges, ()
        return charges
