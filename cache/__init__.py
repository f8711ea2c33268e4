"""What may be forgotten at any moment: counters and copies that many processes share."""
