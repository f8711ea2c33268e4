"""How words become sound: the Voice port and its engines, opened by URL."""
