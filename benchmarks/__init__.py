"""Measurements that anyone can repeat. What is measured, and the figures: benchmarks/README.md."""
