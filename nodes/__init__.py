"""The nodes, one small async function per file. The name of the file is the name of the node."""
