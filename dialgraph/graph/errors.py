"""The errors of a graph and of its turns."""


class GraphError(Exception):
    """A graph cannot be compiled, or a step broke a rule. Each line names the step, the problem and the fix."""


class StepTimeoutError(Exception):
    """A step exceeded its time limit and has no `on_timeout`. The message names the step and may reach the client."""


class StoppedError(Exception):
    """A turn was stopped because nobody listened to it any more."""
