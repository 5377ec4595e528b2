"""The benchmark: runs every planner over a suite of settings, and writes a report."""
