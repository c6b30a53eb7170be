"""Measurements that are run by hand and leave their results in benchmarks/results."""
