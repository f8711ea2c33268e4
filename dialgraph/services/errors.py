"""What can be wrong with the settings of the names in a graph."""


class UnknownServiceError(Exception):
    """The settings do not have this name, or its engine cannot be opened."""
