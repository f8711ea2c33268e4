"""`dialgraph check URL`: checks any server against the rules of the wire, as the strictest clients expect them."""
