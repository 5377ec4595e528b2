"""`mjoa-bench-v1`: frozen instances and scenarios, results that you can check, and a ranking."""
