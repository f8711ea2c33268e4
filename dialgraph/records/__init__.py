"""Records of turns: everything that reached a turn and left it, in its order."""
