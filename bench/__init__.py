"""Benchmarks: measured figures with their targets beside, and ratios against peers measured in the same run."""
