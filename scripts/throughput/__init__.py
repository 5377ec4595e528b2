"""How `bench_env.py` measures environments: what takes part, and how each is stepped."""
