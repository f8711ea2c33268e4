"""The error for a name in a graph that the settings do not define."""


class UnknownServiceError(Exception):
    """The settings do not define this name, or its engine cannot be opened."""
