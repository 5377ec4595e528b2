"""`MJOA/ColdStart-v0`: every round brings fresh UEs and a server that holds nothing of theirs."""

from __future__ import annotations

from typing import ClassVar

from mjoa_gym.envs.base import RoundsEnv


class ColdStartEnv(RoundsEnv):
    """Partition networks and share band and server among UEs whose models are nowhere but on them.

    ## Description
    In every round each of N user equipments (UEs) runs one inference of its neural network. The
    agent decides which layers run at the edge server, and how band and server are shared. What runs
    at the edge must first be uploaded, over the uplink that also carries the activations; uploading
    goes on while earlier layers execute. Rounds are independent: fresh UEs, nothing resident. This
    is our formulation of the setting of MJOA-MU (Yang et al., *Computer Networks* 231, 2023).

    ## Action space
    With `action="plan"` a `Dict`; L is the number of layers of the scenario's deepest network.

    | Key | Space | Meaning |
    |---|---|---|
    | `placements` | `MultiBinary((N, L))` | 0 = layer runs on the UE, 1 = at the edge; entries beyond a UE's last layer are ignored |
    | `bandwidth_share` | `Shares(N)`, float64 | part of the band of each UE, each >= 0, sum <= 1 |
    | `compute_share` | `Shares(N)`, float64 | part of the server of each UE, each >= 0, sum <= 1 |

    An action that is not a plan raises a `ValueError` and changes nothing: a missing or unknown
    key, a wrong shape or dtype, NaN, negative shares, a sum above 1 (by more than 1e-6), or a zero
    share of a resource that the placement needs.

    ## Observation space
    A `Dict`; it holds all that a planner needs (`mjoa_gym.decode_observation`).

    | Key | Shape, dtype | Range | Meaning |
    |---|---|---|---|
    | `dnn` | (N,) int64 | 0 .. D - 1 | index of the UE's network in `scenario.dnns` |
    | `device` | (N,) int64 | 0 .. K - 1 | index of its device in `scenario.ue_devices` |
    | `speed` | (N,) float64 | 0 .. `ue_speed_max` | factor on the device's speed |
    | `weight` | (N,) float64 | 0 .. `weight_max` | weight in the objective |
    | `snr_up` | (N,) float64 | 0 .. `snr_max_db`, but linear | uplink SNR at full band |
    | `snr_down` | (N,) float64 | likewise | downlink SNR at full band |
    | `round` | (1,) int64 | 0 .. `rounds` | rounds that are over |

    ## Rewards
    `1 - sum_i w_i T_i / sum_i w_i T_i(local)`: the reduction of the weighted latency against
    all-local execution. 0 for doing nothing, always below 1, negative without bound for harm.
    `info` has the seconds: `latency_s` (N,), `local_s` (N,) and `round_s` (the slowest inference).

    ## Starting state
    UEs are drawn independently: network, device, speed and weight uniformly, the position uniformly
    over the cell, log-normal shadowing, Rayleigh fading; SNRs are clipped to the stated range.

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

    persists: ClassVar[bool] = False
