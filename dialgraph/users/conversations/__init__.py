"""Users' conversations and their turns, stored so that no acknowledged turn is lost."""
