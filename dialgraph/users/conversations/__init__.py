"""What was said: users' conversations and their turns, kept so that none that was acknowledged is lost."""
