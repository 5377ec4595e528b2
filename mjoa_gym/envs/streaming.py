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
    `action` names the view through which an agent decides; the dynamics are the same. N is `n_ues`,
    L the number of layers of the scenario's deepest network, M that of the longest menu.

    | `action` | Space | For |
    |---|---|---|
    | `"plan"` | `Dict`, see below | planners |
    | `"box"` | `Box(-1, 1, (4N,), float32)` | PPO, SAC |
    | `"multidiscrete"` | `MultiDiscrete([M, M, 8, 8] * N)` | PPO, MaskablePPO |
    | `"discrete"` | `Discrete(M * 2 * 4)`, one UE after the other | DQN |

    **plan**

    | Key | Space | Meaning |
    |---|---|---|
    | `placements` | `MultiBinary((N, L))` | 0 = layer runs on the UE, 1 = at the edge; entries beyond a UE's last layer are ignored |
    | `prefetch` | `MultiBinary((N, L))` | 1 = upload the layer after those of the placement, in program order; no effect on layers placed at the edge or beyond the last |
    | `bandwidth_share` | `Shares(N)`, float64 | part of the band of each UE for the whole round, each >= 0, sum <= 1 |
    | `compute_share` | `Shares(N)`, float64 | part of the server of each UE, each >= 0, sum <= 1 |

    An action that is not a plan raises a `ValueError` and changes nothing: a missing or unknown
    key, a wrong shape or dtype, NaN, negative shares, a sum above 1 (by more than 1e-6), or a zero
    share of a resource that the placement needs.

    **The learned views** choose each UE's placement from a *menu* of its network: at most 16
    sensible placements, found by PBT-DP when the environment is made (`docs/menu.md` says how, and
    what it costs against free placement). Entry 0 leaves all layers on the UE, the last entry none;
    the bytes to upload increase in between. Shares are bids: a UE gets its bid over the sum of the
    bids of all UEs that need the resource. So every action is a plan in which every inference ends.

    | View | Numbers of a UE, in this order |
    |---|---|
    | `box` | placement: the menu cut into equal parts of [-1, 1]; prefetch: likewise, what that entry has at the edge is uploaded in addition; bandwidth bid, compute bid: a bids 8^a. Beyond -1 or 1, numbers are cut |
    | `multidiscrete` | placement: entry of the menu; prefetch: the entry whose edge layers are uploaded in addition, 0 = nothing; bandwidth bid, compute bid: level k of 8 bids 2^(k/2) |
    | `discrete` | `(placement * 2 + prefetch) * 4 + bid`; prefetch 1 uploads all other layers in addition; level k bids 2^k, for band and server alike |

    With `discrete` a round has N steps, one for each UE in order. The reward comes with the last of
    them and is 0 before, so an episode's sum is that of the other views.

    **Masks.** `info["action_mask"]` shows with 0 the choices that are void: entries beyond the UE's
    own menu (they would wrap around it), and with `discrete` also what another action says as well.
    `action_space.sample` takes it: an array of int8 with `discrete`, a tuple with one for each
    number with `multidiscrete`. The array of bool that `action_masks()` returns says the same,
    concatenated, for MaskablePPO; so does the row `infos["action_mask"][e]` of a vector environment,
    whose `sampling_masks()` are for sampling. An action outside the space raises a `ValueError` and
    changes nothing.

    ## Observation space
    `observation` is `"dict"` (the default with `action="plan"`) or `"flat"` (with the others). Either
    holds all that a planner needs: `mjoa_gym.decode_observation` gives the `Instance` back.

    **dict**

    | Key | Shape, dtype | Range | Meaning |
    |---|---|---|---|
    | `dnn` | (N,) int64 | 0 .. D - 1 | index of the UE's network in `scenario.dnns` |
    | `ue_device` | (N,) int64 | 0 .. K - 1 | index of its device in `scenario.ue_devices` |
    | `speed` | (N,) float64 | 0 .. `ue_speed_max` | factor on the device's speed |
    | `weight` | (N,) float64 | 0 .. `weight_max` | weight in the objective |
    | `snr_up` | (N,) float64 | 0 .. `snr_max_db`, but linear | uplink SNR at full band |
    | `snr_down` | (N,) float64 | likewise | downlink SNR at full band |
    | `resident` | (N, L) float64 | 0 .. 1 | fraction of each layer's parameters on the server; 0 beyond the last layer |
    | `idle_rounds` | (N, L) int64 | 0 .. `rounds` | rounds since a resident layer was last placed at the edge or uploaded; 0 if that was the last round, or nothing is resident |
    | `round` | (1,) int64 | 0 .. `rounds` | rounds that are over |
    | `turn` | (1,) int64 | 0 .. N - 1 | `discrete` only: the UE to decide about |
    | `chosen` | (N,) int64 | -1 .. actions - 1 | `discrete` only: this round's actions so far, -1 where there is none |

    **flat** is a `Box(0, 1, float32)`: for each UE the columns below, then the rounds that are over
    as a part of all. With `discrete` it begins with the UE to decide about, the others follow in
    order.

    | Columns | Meaning |
    |---|---|
    | D | network, one-hot |
    | K | device, one-hot |
    | 1, 1 | speed over `ue_speed_max`, weight over `weight_max` |
    | 1, 1 | uplink and downlink SNR in dB, 0 at `snr_min_db`, 1 at `snr_max_db` |
    | 1 | the UE's part of `sum_i w_i T_i(local)` |
    | L | resident fraction of each layer |
    | L | rounds since each layer was used, over `rounds` |
    | 4 | `discrete` only: decided or not, and the chosen placement, prefetch and bid over their greatest values |

    ## Rewards
    `1 - sum_i w_i T_i / sum_i w_i T_i(local)`: the reduction of the weighted latency against
    all-local execution. 0 for doing nothing, always below 1, negative without bound for harm.

    ## Info
    `info` has the same keys after `reset` and after every `step`. What it says of a round is zero
    unless this step has completed one (with `discrete`, all but the last of N steps do not).

    | Key | Kind | Meaning |
    |---|---|---|
    | `round_complete` | bool | whether this step has completed a round |
    | `latency_s`, `local_s` | (N,) float64 | seconds of each UE's inference, and of the same with all layers on the UE |
    | `round_s` | float | seconds of the round |
    | `left` | (N,) bool | UEs that have left after the round |
    | `resident_bytes`, `dropped_bytes` | float | parameters that the server keeps for the next round, and those dropped for want of memory |
    | `action_mask` | see above | `multidiscrete` and `discrete` only: masks of the next action |

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
    | `scenario` | `None` | a `Scenario`, a dict of the fields that differ from the defaults (`scenario={"bandwidth_hz": 20e6}`), a packaged scenario's name or a YAML file's path |
    | `rounds` | `None` | length of an episode; overrides the scenario's |
    | `render_mode` | `None` | `"rgb_array"` (a picture of the last round) or `"ansi"` (as text) |
    | `observation` | `None` | `"dict"` or `"flat"`; by default what the action view's agents usually want |

    `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")` makes many in one compiled
    loop, equal to as many single ones; it also takes `autoreset_mode`, `threads` and
    `max_episode_steps` (`mjoa_gym.envs.vector.RoundsVectorEnv`).

    ## Version history
    * v0: first version. Before its release the observation's `device` became `ue_device`.
    """  # noqa: E501 - cells of a table cannot be broken

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"
