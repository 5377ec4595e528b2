"""The comparison of measured with simulated latencies.

`scripts/testbed.py` runs it for one UE, `scripts/testbed_multi.py` for several.
"""
