"""Who asks, and what they said."""
