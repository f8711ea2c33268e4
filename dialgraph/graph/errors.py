"""What can be wrong with a graph, or with a turn of it."""


class GraphError(Exception):
    """A graph cannot be compiled, or a step did what it may not. Each line names the step, the fault and the cure."""


class StepTimeoutError(Exception):
    """A step was not done in its time and has no other way to go. Names the step; may reach the caller."""


class StoppedError(Exception):
    """A turn was stopped because nobody heard it any more."""
