"""The comparison of measured with simulated latencies; `scripts/testbed.py` runs it."""
