"""The engines of the Store port, and the rows that they share."""
