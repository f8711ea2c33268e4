"""What each host of voice agents expects of an endpoint: data, one small file a host."""
