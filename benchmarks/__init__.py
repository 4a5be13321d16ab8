"""Holdfast beside the raw limit and its peers: one scenario, every system, equal durability.

The harness (this package, run as `python -m benchmarks`) starts every measurement as a process of its own, so
each system lives in its own environment, pays its own memory and CPU, and can not slow down the next one. A
system is a module in `benchmarks.systems` that takes a request as one JSON argument and prints one JSON line.
"""
