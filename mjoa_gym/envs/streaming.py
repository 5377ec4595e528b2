"""`MJOA/Streaming-v0`: UEs stay, and what they upload stays with them."""

from __future__ import annotations

from typing import ClassVar

from mjoa_gym.envs.base import RoundsEnv


class StreamingEnv(RoundsEnv):
    """Partition, share, and decide what to upload for later: UEs and their parameters persist.

    ## Description
    As `MJOA/ColdStart-v0`, but UEs stay and issue one inference in every round. A round lasts
    `max(period_s, the slowest inference)`. Parameters that have reached the server by its end,
    complete or in part, are there in the next round. A UE may *prefetch* layers that its present
    inference does not need: they go up when the uplink share would idle, until the round ends.
    Between two rounds the server keeps at most `server_memory_bytes` of parameters and drops the
    least recently used layers first; UEs walk, their shadowing drifts and their fading is drawn
    anew; some leave, their parameters with them, and others with another network take their
    place. What is best for this round is therefore not best for the episode.

    ## Action space
    With `action="plan"` a `Dict`; L is the number of layers of the scenario's deepest network.

    | Key | Space | Meaning |
    |---|---|---|
    | `placements` | `MultiBinary((N, L))` | 0 = layer runs on the UE, 1 = at the edge; entries beyond a UE's last layer are ignored |
    | `prefetch` | `MultiBinary((N, L))` | 1 = upload the layer after those of the placement, in program order; no effect on layers placed at the edge or beyond the last |
    | `bandwidth_share` | `Shares(N)`, float64 | part of the band of each UE for the whole round, each >= 0, sum <= 1 |
    | `compute_share` | `Shares(N)`, float64 | part of the server of each UE, each >= 0, sum <= 1 |

    An action that is not a plan raises a `ValueError` and changes nothing: a missing or unknown
    key, a wrong shape or dtype, NaN, negative shares, a sum above 1 (by more than 1e-9), or a zero
    share of a resource that the placement needs.

    ## Observation space
    A `Dict`; it holds all that a planner needs (`mjoa_gym.decode_observation`), and what the
    server's memory goes by.

    | Key | Shape, dtype | Range | Meaning |
    |---|---|---|---|
    | `dnn` | (N,) int64 | 0 .. D - 1 | index of the UE's network in `scenario.dnns` |
    | `device` | (N,) int64 | 0 .. K - 1 | index of its device in `scenario.ue_devices` |
    | `speed` | (N,) float64 | 0 .. `ue_speed_max` | factor on the device's speed |
    | `weight` | (N,) float64 | 0 .. `weight_max` | weight in the objective |
    | `snr_up` | (N,) float64 | 0 .. `snr_max_db`, but linear | uplink SNR at full band |
    | `snr_down` | (N,) float64 | likewise | downlink SNR at full band |
    | `resident` | (N, L) float64 | 0 .. 1 | fraction of each layer's parameters on the server; 0 beyond the last layer |
    | `idle_rounds` | (N, L) int64 | 0 .. `rounds` | rounds since a resident layer was last placed at the edge or uploaded; 0 if that was the last round, or nothing is resident |
    | `round` | (1,) int64 | 0 .. `rounds` | rounds that are over |

    ## Rewards
    `1 - sum_i w_i T_i / sum_i w_i T_i(local)`: the reduction of the weighted latency against
    all-local execution. 0 for doing nothing, always below 1, negative without bound for harm.
    `info` has the seconds `latency_s` (N,), `local_s` (N,), `round_s`, the UEs that `left` (N,)
    after the round, and `resident_bytes` and `dropped_bytes` of the server's memory.

    ## Starting state
    An empty server. UEs are drawn independently: network, device, speed and weight uniformly, the
    position uniformly over the cell, log-normal shadowing, Rayleigh fading; SNRs are clipped to the
    stated range.

    ## Episode end
    Truncation after `rounds` rounds (no `TimeLimit` is needed). It never terminates.

    ## Arguments
    | Name | Default | Meaning |
    |---|---|---|
    | `action` | `"plan"` | the action view |
    | `n_ues` | `None` | N; overrides the scenario's |
    | `scenario` | `None` | a `Scenario`, a dict of the fields that differ from the defaults, a packaged scenario's name or a YAML file's path |
    | `rounds` | `None` | length of an episode; overrides the scenario's |
    | `render_mode` | `None` | `"rgb_array"` (Gantt chart of the last round) or `"ansi"` (as text) |

    ## Version history
    * v0: first version.
    """  # noqa: E501 - cells of a table cannot be broken

    persists: ClassVar[bool] = True
