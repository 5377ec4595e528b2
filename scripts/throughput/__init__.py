"""The measurements of `bench_env.py`: the contenders, and how each is stepped."""
