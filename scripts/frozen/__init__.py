"""Generates the frozen instances, scenarios and best-known plans of `mjoa-bench-v1`."""
