"""What can be done in a turn. One small async function a file; a file's name is the node's name."""
