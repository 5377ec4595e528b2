"""A runtime that executes plans for real: two processes, real layers, real sockets (extra testbed).

`python -m mjoa_gym.testbed server` and `python -m mjoa_gym.testbed ue` are its two sides;
`docs/testbed.md` describes them. Nothing here is imported by the rest of the package.
"""
