"""Benchmarks. They compare servers in one run and report ratios, because the speed of machines varies."""
