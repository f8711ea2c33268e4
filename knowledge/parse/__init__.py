"""Files of many kinds → blocks, in a child process that can do no harm: see `knowledge.parse.run`."""
