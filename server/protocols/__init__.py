"""The protocols: how clients request turns and receive them. One folder for each."""
