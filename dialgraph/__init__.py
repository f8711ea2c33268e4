"""The engine: what is declared in a graph, how a turn of it runs, and all that it stands on."""
