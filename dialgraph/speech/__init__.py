"""Speech: voices and transcribers with their ports and engines, recordings, and sample rates."""
