"""Go on where the call stands."""

from dialgraph import State, Turn, Update, node


@node(writes="route", needs_memory=True)
async def recall(state: State, turn: Turn) -> Update:
    """Choose the way by what is kept of the call.

    The route is the stage that a step has set; without one it is the first slot that is missing, if its table has an
    entry of that name, else `missing`; and `complete` when every slot is known. The graph's policy declares the slots:
    `Policy(memory={"slots": {"name": "text", "day": "date"}})`.
    """
    memory = turn.memory
    await memory.load()
    if memory.stage:
        return {"route": memory.stage}
    if not memory.missing:
        return {"route": "complete"}
    return {"route": memory.missing[0] if memory.missing[0] in turn.place.routes else "missing"}
