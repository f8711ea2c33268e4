"""Where rows live: one engine, one migration tree; other folders own their tables in it."""
