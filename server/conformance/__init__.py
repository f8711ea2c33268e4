"""`dialgraph check URL`: hold any server against the wire's rules and the clients' strictest expectations."""
