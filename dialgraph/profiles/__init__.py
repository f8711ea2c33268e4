"""The profiles: what each voice host expects of an endpoint, as data, one small file for each host."""
