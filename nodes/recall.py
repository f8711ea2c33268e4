"""The node `recall`: continues where the last turn of the call ended."""

from dialgraph import State, Turn, Update, node


@node(writes="route", needs_memory=True)
async def recall(state: State, turn: Turn) -> Update:
    """Choose the next step from the memory of the call.

    The route is the first of these that applies:

    - the stage, if a `remember` step has set one;
    - `complete`, if every slot is filled;
    - the name of the first missing slot, if the `then` table has an entry of that name;
    - `missing`.

    The policy of the graph declares the slots: `Policy(memory={"slots": {"name": "text", "day": "date"}})`.
    """
    memory = turn.memory
    await memory.load()
    if memory.stage:
        return {"route": memory.stage}
    if not memory.missing:
        return {"route": "complete"}
    return {"route": memory.missing[0] if memory.missing[0] in turn.place.routes else "missing"}
