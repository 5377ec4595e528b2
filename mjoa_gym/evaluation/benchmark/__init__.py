"""The benchmark: every planner through the environments, over a suite of settings, to a report."""
