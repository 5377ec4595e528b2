"""A runtime that executes plans for real: two processes, real layers and real sockets.

It needs the extra `testbed`. `python -m mjoa_gym.testbed server` starts the edge server and
`python -m mjoa_gym.testbed ue` starts a UE; `docs/testbed.md` describes both. Of the rest of the
package, only the command line imports these modules, when `mjoa-gym testbed` runs.
"""
