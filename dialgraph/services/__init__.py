"""Settings, and the engines that the names in a graph refer to."""
