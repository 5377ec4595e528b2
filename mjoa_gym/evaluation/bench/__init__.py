"""`mjoa-bench-v1`: frozen instances and scenarios, results that anybody can check, one ranking."""
