"""What no log, record, trace or export may show of a caller, and what stands in for it."""
