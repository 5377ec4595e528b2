"""The Gymnasium interface to a single environment, and the environments' documentation page."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView
from mjoa_gym.envs.core import ARGUMENTS, ONE, Core, ScenarioLike, refuse_unknown, row
from mjoa_gym.world.rounds import Outcome
from mjoa_gym.world.scenario import Scenario

Step = tuple[Any, float, bool, bool, dict[str, Any]]


class RoundsEnv(gym.Env[Any, Any]):
    """Rounds of offloading decisions: the common part of `MJOA/ColdStart-v1` and `MJOA/Streaming-v1`.

    *Streaming* marks what applies only to `MJOA/Streaming-v1`, where UEs and their parameters stay.

    ## Description
    In every round, each of N user equipments (UEs) runs one inference of its neural network. The
    agent decides which layers run at the edge server, and how the UEs share the band and the server.
    The parameters of layers that run at the edge must first be uploaded, over the uplink that also
    carries the activations. Uploading continues while earlier layers execute.

    ## Action space
    `action` selects the view through which the agent decides. The dynamics are the same for all
    views. N is `n_ues`, L the number of layers of the scenario's deepest network, and M the number
    of entries of the longest menu.

    | `action` | Space | Streaming | For |
    |---|---|---|---|
    | `"plan"` | `Dict`, see below | with `prefetch` | planners |
    | `"box"` | `Box(-1, 1, (3N,), float32)` | `(4N,)` | PPO, SAC |
    | `"multidiscrete"` | `MultiDiscrete([M, 8, 8] * N)` | `[M, M, 8, 8] * N` | PPO, MaskablePPO |
    | `"discrete"` | `Discrete(M * 4)`, one UE after the other | `M * 2 * 4` | DQN |
    | `"shares"` | `MultiDiscrete([8, 8] * N)` | the same | PPO |
    | `"shares-box"` | `Box(-1, 1, (2N,), float32)` | the same | PPO, SAC |
    | `"shares-discrete"` | `Discrete(8)`, one UE after the other | the same | DQN |

    If the scenario sets `retain`, a streaming decision also chooses the layers that the server drops
    last. This choice follows `prefetch`: a key of the plan, `(5N,)`, `[M, M, M, 8, 8] * N`, or
    `M * 2 * 2 * 4`.

    **plan**

    | Key | Space | Meaning |
    |---|---|---|
    | `placements` | `MultiBinary((N, L))` | 0 = the layer runs on the UE, 1 = at the edge; entries beyond a UE's last layer are ignored |
    | `prefetch` | `MultiBinary((N, L))` | streaming: 1 = upload the layer after the layers of the placement, in program order; no effect on layers that are placed at the edge or lie beyond the last layer |
    | `retain` | `MultiBinary((N, L))` | streaming, if the scenario sets `retain`: 1 = the server drops the layer only after all layers that are not marked |
    | `bandwidth_share` | `Shares(N)`, float64 | each UE's share of the band for the whole round, each >= 0, sum <= 1 |
    | `compute_share` | `Shares(N)`, float64 | each UE's share of the server, each >= 0, sum <= 1 |

    An invalid action raises a `ValueError` and changes nothing. Invalid are a missing or unknown
    key, a wrong shape or dtype, NaN, a negative share, shares that sum to more than 1 (by more than
    1e-6), and a zero share of a resource that the placement needs.

    **The learned views** choose each UE's placement from the *menu* of its network: at most 16
    sensible placements, found by PBT-DP beforehand or when the environment is made. (`docs/menu.md`
    explains how, and what the menu costs compared with free placement.) Entry 0 places all layers on
    the UE, and the last entry places all layers at the edge. The bytes to upload increase from entry
    to entry. Bids determine the shares: a UE's share is its bid over the sum of the bids of all UEs
    that need the resource. So every action is a plan in which every inference ends.

    | View | Numbers of a UE, in this order |
    |---|---|
    | `box` | placement: [-1, 1] is divided into equal parts, one for each entry of the menu; streaming: prefetch, divided in the same way: the layers that this entry places at the edge are uploaded in addition; if there is `retain`, likewise; bandwidth bid, compute bid: the number a bids 8^a. Numbers beyond -1 or 1 are clipped |
    | `multidiscrete` | placement: entry of the menu; streaming: prefetch, the entry whose edge layers are uploaded in addition, 0 = nothing; if there is `retain`, the entry whose edge layers are dropped last; bandwidth bid, compute bid: level k of 8 bids 2^(k/2) |
    | `discrete` | `((placement * P + prefetch) * R + retain) * 4 + bid`; P = 2 when streaming, else 1; R = 2 if there is `retain`, else 1; prefetch 1 uploads all other layers in addition, retain 1 marks all layers; level k bids 2^k, for both band and server |

    **Shares alone.** In the best plan of a round, every UE's placement is the best one for the UE's
    shares. So three of the learned views leave the placements to the environment. A UE bids for band
    and server. Its shares are its bids over the sums of all bids, and it takes the entry of its menu
    that costs least at these shares. UEs that need nothing then give their shares to the other UEs,
    which choose again. A bid is a factor on what the UE's inference would cost all-local, so equal
    bids share band and server in proportion to these costs. A UE that bids nothing for one of the
    two runs all its layers itself. Unless energy has a price, no reward is negative. Stock
    algorithms start from sensible plans with these views and learn faster (`docs/learning.md` has
    figures).

    When streaming, each UE has a *target*, an entry of its menu, and also uploads the layers that
    the target places at the edge. All targets together fit into the server's memory, because a byte
    of memory has a price: the lowest one at which the targets fit. A UE's target is the entry that
    minimises the sum of two terms: what the UE will cost, at the first shares, with the entry's
    parameters on the server, and the price of these parameters. If energy has a price, sending what
    is missing counts as well, divided by 0.3 times the number of later rounds for which the UE is
    expected to stay. Where parameters are shared, UEs with the same network have one target. If the
    scenario sets `retain`, the server drops the
    targets' layers last, and a UE whose target is complete uploads what would be best for it alone.

    | View | Numbers of a UE, in this order |
    |---|---|
    | `shares` | bandwidth bid, compute bid: level 0 bids nothing, level k of 7 bids 2^((k - 4)/2) |
    | `shares-box` | bandwidth bid, compute bid: the number a bids 2^(1.5 a), except that -1 bids nothing. Numbers beyond -1 or 1 are clipped |
    | `shares-discrete` | one level, as in `shares`, for both band and server |

    With `discrete` and `shares-discrete`, a round has N steps, one for each UE in order. The last
    step of a round brings its reward, and the others bring 0. So an episode's sum of rewards is the
    same as with the other views.

    **Masks.** `info["action_mask"]` is 0 for choices that are void: entries beyond the UE's own menu
    (they wrap around it). With `discrete`, choices that duplicate another action are void too:
    prefetching with all layers at the edge, and any bid but the lowest if nothing is placed at the
    edge or uploaded. `action_space.sample` accepts this mask, which is an array of int8 with
    `discrete`, and a tuple of one array for each number with `multidiscrete`. `action_masks()`
    returns the same mask as one concatenated array of bool, for MaskablePPO. In a vector
    environment, the row `infos["action_mask"][e]` is concatenated as well, and `sampling_masks()`
    returns masks for sampling. An action outside the space raises a `ValueError` and changes nothing.

    ## Observation space
    `observation` is `"dict"` (the default with `action="plan"`), `"flat"` (the default with the
    first three learned views) or `"outlook"` (the default with shares alone; not available with
    `action="plan"`). The first two hold all that a planner needs: `mjoa_gym.decode_observation`
    returns the `Instance`. The third holds what the simulator derives from it for each entry of the
    menus. It does not identify networks or devices.

    **dict**

    | Key | Shape, dtype | Range | Meaning |
    |---|---|---|---|
    | `dnn` | (N,) int64 | 0 .. D - 1 | index of the UE's network in `scenario.dnns` |
    | `ue_device` | (N,) int64 | 0 .. K - 1 | index of its device in `scenario.ue_devices` |
    | `speed` | (N,) float64 | 0 .. `ue_speed_max` | factor on the device's speed |
    | `weight` | (N,) float64 | 0 .. `weight_max` | weight in the objective |
    | `snr_up` | (N,) float64 | 0 .. `snr_max_db` as a linear ratio | uplink SNR at full band |
    | `snr_down` | (N,) float64 | as `snr_up` | downlink SNR at full band |
    | `uplink_bps` | (N,) float64 | 0 .. the trace's maximum | scenarios with a `trace`, in place of SNRs: rate with the whole band |
    | `downlink_bps` | (N,) float64 | likewise | likewise |
    | `message_s` | (N,) float64 | likewise | scenarios with a `trace`: seconds that a message takes in addition to its bytes |
    | `deadline_s` | (N,) float64 | 0 .. the longest | only if the scenario has deadlines: seconds within which the UE wants its results |
    | `resident` | (N, L) float64 | 0 .. 1 | streaming: fraction of each layer's parameters on the server; 0 beyond the last layer |
    | `idle_rounds` | (N, L) int64 | 0 .. `rounds` | streaming: rounds since a resident layer was last placed at the edge or uploaded; 0 if that was the last round, or nothing is resident |
    | `memory` | (D, L) float64 | 0 .. 1 | streaming, if parameters are shared: fraction of each network's layers on the server, whether or not a UE runs the network |
    | `memory_idle` | (D, L) int64 | 0 .. `rounds` | likewise: rounds since each layer was used |
    | `round` | (1,) int64 | 0 .. `rounds` | rounds that are over |
    | `turn` | (1,) int64 | 0 .. N - 1 | only with one UE after the other: the UE to decide about |
    | `chosen` | (N,) int64 | -1 .. actions - 1 | likewise: this round's actions so far, -1 for UEs that are still to act |

    **flat** is a `Box(0, 1, float32)`. It has the columns below for each UE, then the fraction of the
    episode's rounds that are over, and then, if parameters are shared when streaming, the fraction of
    each of the D networks' bytes that is on the server. Where one UE decides after the other, the
    first UE is the UE to decide about, and the other UEs follow in order.

    | Columns | Meaning |
    |---|---|
    | D | network, one-hot |
    | K | device, one-hot |
    | 1, 1 | speed over `ue_speed_max`, weight over `weight_max` |
    | 1, 1 | uplink and downlink SNR in dB, 0 at `snr_min_db`, 1 at `snr_max_db`; with a `trace` the rates, on a logarithmic scale from its minimum to its maximum |
    | 1 | the UE's fraction of `sum_i w_i T_i(local)` |
    | 1 | scenarios with a `trace`: seconds of a message over the trace's maximum |
    | 1 | only if the scenario has deadlines: the deadline over `deadline_max_s`, or over `deadline_factor_max` times the UE's all-local seconds |
    | L | streaming: resident fraction of each layer |
    | L | streaming: rounds since each layer was used, over `rounds` |
    | 4 or 5 | `discrete` only: decided or not, and the chosen placement, prefetch, retain (if there is `retain`) and bid over their maximum values |
    | 2 | `shares-discrete` only: decided or not, and the chosen bid over the maximum |

    **outlook** is a `Box(0, 1, (N, columns), float32)` with one row for each UE. Seconds are relative
    to the UE's all-local seconds, and on a logarithmic scale from e^-7 to e^3. Other numbers marked *
    are on this scale too. Columns marked "only" are absent from other scenarios. A row has the columns
    of the first table, then the last ones of **flat** where one UE decides after the other, and then
    the columns of the second table for each of the M entries of the UE's menu, or of the third table
    for each of five bids. Where one UE decides after the other, the first row belongs to the UE to
    decide about, and the other UEs follow in order. `observation_space.layout` has the number of
    columns of each kind.

    | Column of a UE | Meaning |
    |---|---|
    | 0, 1 | its all-local seconds, absolute *, and its fraction of the UEs' all-local costs |
    | 2 | its weight over the maximum |
    | 3, 4 | bit/s with the whole band, up and down, over 20 bit/s for each Hz of the band |
    | 5, 6 | fewest seconds over the menu, at an equal and at a generous share * |
    | 7 | streaming: fewest seconds over the menu if nothing were missing *, else 1 |
    | 8 | streaming: seconds to upload everything that is missing, at an equal share, over the period * |
    | 9 | streaming: bytes of its network on the server, over the server's memory |
    | 10 | streaming: all bytes on the server, over its memory; equal layers that are shared count once |
    | 11 | streaming: rounds still to come over the rounds of an episode, else 1 |
    | 12, 13 | 1 / N, and the mean of column 5 over all UEs, weighted with column 1 |
    | next | only when streaming with shared parameters: the fraction of the UEs that run its network |
    | next | only when streaming with `retain`: u / (1 + u), where u is the mean number of rounds since the bytes that column 9 counts were last used |
    | next | only with deadlines: its deadline over its all-local seconds * |
    | next | only if energy has a price: the seconds that its all-local joules count as, over its all-local seconds * |

    | Column of an entry | Meaning; all are zero beyond the menu's end |
    |---|---|
    | 0 | 1 if the entry exists |
    | 1, 2 | seconds of the inference at an equal share, and at a generous share (three times as large) * |
    | 3 | seconds to upload what is missing, at an equal share * |
    | 4 | its seconds on the server, at an equal share * |
    | 5 | streaming: seconds at an equal share if nothing were missing *, else 0 |
    | 6 | streaming: the bytes that are missing, over the server's memory, else 0 |
    | next | only when streaming with `retain`: the bytes of its edge layers that are on the server, over the server's memory |
    | next | only with deadlines: 1 if it meets the deadline, at an equal share |
    | next | only if energy has a price: joules at an equal share, over the UE's all-local joules * |

    With shares alone, the columns of five bids that the UE might make replace those of the entries.
    The bids are, for band and server, (1, 1), (1/b, 1/b), (b, b), (b, 1) and (1, b), where b is the
    maximum bid, 2^1.5. The other UEs are assumed to bid 1. Columns 5 to 7 of the UE then describe the
    bids (1, 1), the best of the five, and the UE's *favourite* at (1, 1). The favourite is the entry
    that would be best for the UE with all parameters on the server, among the entries that fit into
    memory.

    | Column of a bid | Meaning; seconds are over the UE's all-local seconds, at most 1, not logarithmic |
    |---|---|
    | 0 | 1 if the UE would have layers at the edge |
    | 1 | seconds of its inference |
    | 2 | seconds to upload what is missing |
    | 3 | its seconds on the server |
    | 4 | streaming: seconds with its favourite, else 0 |
    | 5 | streaming: the favourite's bytes that are missing, over the server's memory, else 0 |
    | next | only when streaming with `retain`: the favourite's bytes that are on the server, over the server's memory |
    | next | only with deadlines: 1 if it meets the deadline |
    | next | only if energy has a price: joules over the UE's all-local joules * |

    ## Rewards
    `1 - sum_i C_i / sum_i C_i(local)`: the reduction of the UEs' costs against all-local execution.
    The reward is 0 if all layers run locally, always below 1, and negative, without bound, if the
    plan is worse than local execution. The cost of an inference is

        C_i = w_i (T_i + energy_price_s_per_j E_i + miss_price_s [T_i > deadline_s])

    with its latency T_i and the joules E_i that it takes from the UE's battery, prefetches
    included. Both prices are 0 by default. The reward then is the reduction of the weighted latency.

    ## Info
    `info` has the same keys after `reset` and after every `step`. The entries that describe a round
    are zero unless the step completes one. (Where one UE decides after the other, only the last of N
    steps does.)

    | Key | Kind | Meaning |
    |---|---|---|
    | `round_complete` | bool | whether this step completed a round |
    | `latency_s`, `local_s` | (N,) float64 | seconds of each UE's inference, and of the same inference with all layers on the UE |
    | `round_s` | float | seconds of the round: those of the slowest inference, and at least `period_s` when streaming |
    | `missed` | (N,) bool | whether each UE's inference took longer than its deadline; all false without deadlines |
    | `energy_j` | (N,) float64 | joules that each UE spent on its inference and prefetches; only if the power of all the scenario's UE devices is known, as it is for the default devices (`mjoa_gym.devices.Power`) |
    | `left` | (N,) bool | streaming: UEs that left after the round |
    | `resident_bytes`, `dropped_bytes` | float | streaming: bytes of parameters that the server keeps for the next round, and those that it dropped for lack of memory |
    | `action_mask` | see above | `multidiscrete` and `discrete` only: masks of the next action |

    ## Starting state
    The server is empty. UEs are drawn independently. Network, device, speed, weight and deadline (if
    the scenario has deadlines; a UE keeps its deadline while it stays) are uniform, the position is
    uniform over the cell, shadowing is log-normal, and fading is Rayleigh. SNRs are clipped to the
    stated range. With a `trace`, each UE starts at a uniformly drawn moment of it (`docs/uplinks.md`).

    ## Episode end
    The episode is truncated after `rounds` rounds (no `TimeLimit` is needed). It never terminates.

    ## Arguments
    | Name | Default | Meaning |
    |---|---|---|
    | `action` | `"plan"` | the action view |
    | `n_ues` | `None` | N; overrides the scenario's |
    | `scenario` | `None` | a `Scenario`, a dict of the fields that differ from the defaults (`scenario={"bandwidth_hz": 40e6}`) or from a packaged scenario's (`{"base": "ideal", ...}`), a packaged scenario's name or a YAML file's path |
    | `rounds` | `None` | length of an episode; overrides the scenario's |
    | `render_mode` | `None` | `"rgb_array"` (a picture of the last round) or `"ansi"` (as text) |
    | `observation` | `None` | `"dict"`, `"flat"` or `"outlook"`; the default depends on the action view |

    `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")` runs many environments in one
    compiled loop. They equal as many single environments. It also takes `autoreset_mode`, `threads`
    and `max_episode_steps` (`mjoa_gym.envs.vector.RoundsVectorEnv`).

    ## Version history
    * v1: a new default scenario. It uses properties that v0 did not have: `message_s`,
      `parameter_bits` and `activation_bits`, `share_parameters`, `retain`. The observation's `device`
      is renamed to `ue_device`. `info` has the same keys after `reset` and `step`. With the scenario
      `ideal`, v1 behaves like v0.
    * v0: first version, never released.

    Attributes:
        core: Dynamics, action view and observation.
        persists: Whether UEs and their parameters stay from round to round.
        title: Name of the environment in pictures.
    """  # noqa: E501 - cells of a table cannot be broken

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 2,
    }
    persists: ClassVar[bool]
    title: ClassVar[str]

    def __init__(
        self,
        action: str = "plan",
        n_ues: int | None = None,
        scenario: ScenarioLike = None,
        rounds: int | None = None,
        render_mode: str | None = None,
        observation: str | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown(self, unknown, ARGUMENTS)
        self.core = Core(self, 1, 1, action, n_ues, scenario, rounds, render_mode, observation)
        self._names = {"action": action, "observation": observation}
        self.action_space = self.core.view.space
        self.observation_space = self.core.observation.space
        self.render_mode = render_mode
        self._begun = False
        self._seeded = False

    @property
    def scenario(self) -> Scenario:
        """The setting."""
        return self.core.scenario

    @property
    def view(self) -> ActionView:
        """The action view."""
        return self.core.view

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make an environment like this one, or a vector of them."""
        return self._names | {"scenario": self.scenario}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with fresh UEs and an empty server.

        Raises:
            ValueError: If options are given; the environment has none.
        """
        if options:
            raise ValueError(f"options={options!r}: this environment has none")
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.core.batch.seed(0, self.np_random)
            self._seeded = True
        self.core.begin(ONE)
        self._begun = True
        return self._observation(), self._info(*self.core.idle())

    def step(self, action: Any) -> Step:
        """Play one round, or a part of one if the view asks for several actions.

        Raises:
            ValueError: If the action is not allowed; the environment is unchanged then.
            ResetNeeded: Before the first `reset` and after the last round.
        """
        core = self.core
        if not self._begun or core.batch.over()[0]:
            raise ResetNeeded("the episode is over or has not begun: call reset() first")
        outcome, complete = core.step(core.view.single(action), ONE)
        reward, truncated = float(outcome.reward[0]), bool(core.batch.over()[0])
        return self._observation(), reward, False, truncated, self._info(outcome, complete)

    def action_masks(self) -> NDArray[np.bool_]:
        """Return (choices,) bool: False for the choices of the next action that are void.

        This is for sb3-contrib's MaskablePPO. The choices of a `MultiDiscrete` action are
        concatenated.
        """
        return self.core.action_masks()[0]

    def render(self) -> Any:
        """Draw the last round and the server's memory: uint8 (height, width, 3), or "ansi" text.

        Before the first round, every UE is shown as if it ran all layers itself.
        """
        if self.core.pictures is None:
            gym.logger.warn('render() needs a render_mode: gym.make(..., render_mode="rgb_array")')
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded only when needed

        (scene,) = self.core.pictures.scenes()
        draw = rendering.scene_rgb if self.render_mode == "rgb_array" else rendering.scene_text
        return draw(scene)

    def _observation(self) -> Any:
        return row(self.core.observe(), 0)

    def _info(self, outcome: Outcome, complete: NDArray[np.bool_]) -> dict[str, Any]:
        infos = self.core.infos(outcome, complete)
        if "action_mask" in infos:
            infos["action_mask"] = self.view.sampling_masks(infos["action_mask"])
        own = {key: values[0] for key, values in infos.items()}
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in own.items()}


class ColdStartEnv(RoundsEnv):
    """`MJOA/ColdStart-v1`: every round starts with fresh UEs and an empty server.

    The agent partitions networks and shares band and server; rounds are independent. This is our
    formulation of the setting of MJOA-MU (Yang et al., *Computer Networks* 231, 2023).
    `RoundsEnv` describes actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = False
    title: ClassVar[str] = "ColdStart"


class StreamingEnv(RoundsEnv):
    """`MJOA/Streaming-v1`: UEs stay, and so do the parameters that they upload.

    The agent also decides what to upload for later. Each UE issues one inference in every round. A
    round lasts `max(period_s, the slowest inference)`. Parameters that reach the server by its end,
    complete or in part, are there in the next round. A UE may *prefetch* layers that its present
    inference does not need. They are uploaded while the uplink share would be idle, until the round
    ends. Between rounds, the server keeps at most `server_memory_bytes` of parameters and drops the
    least recently used layers first. UEs walk, their shadowing drifts, and their fading is drawn
    anew. Some UEs leave, together with their parameters, and UEs with another network replace them.
    The best plan for a round is therefore not the best for the episode. `RoundsEnv` describes
    actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"
