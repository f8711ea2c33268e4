"""The world of a run: its clock, its ids, its chance, and threads."""
