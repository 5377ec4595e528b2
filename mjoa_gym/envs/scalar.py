"""One environment at a time: the Gymnasium interface, and its page."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from mjoa_gym.envs.actions import ActionView
from mjoa_gym.envs.core import ARGUMENTS, Core, ScenarioLike, refuse_unknown, row
from mjoa_gym.world.rounds import Outcome
from mjoa_gym.world.scenario import Scenario

Step = tuple[Any, float, bool, bool, dict[str, Any]]
EVERYBODY = np.ones(1, dtype=np.bool_)


class RoundsEnv(gym.Env[Any, Any]):
    """Rounds of offloading decisions: what `MJOA/ColdStart-v1` and `MJOA/Streaming-v1` share.

    *Streaming* marks what only the latter has, where UEs and their parameters stay.

    ## Description
    In every round each of N user equipments (UEs) runs one inference of its neural network. The
    agent decides which layers run at the edge server, and how band and server are shared. What runs
    at the edge must first be uploaded, over the uplink that also carries the activations; uploading
    goes on while earlier layers execute.

    ## Action space
    `action` names the view through which an agent decides; the dynamics are the same. N is `n_ues`,
    L the number of layers of the scenario's deepest network, M that of the longest menu.

    | `action` | Space | Streaming | For |
    |---|---|---|---|
    | `"plan"` | `Dict`, see below | with `prefetch` | planners |
    | `"box"` | `Box(-1, 1, (3N,), float32)` | `(4N,)` | PPO, SAC |
    | `"multidiscrete"` | `MultiDiscrete([M, 8, 8] * N)` | `[M, M, 8, 8] * N` | PPO, MaskablePPO |
    | `"discrete"` | `Discrete(M * 4)`, one UE after the other | `M * 2 * 4` | DQN |
    | `"shares"` | `MultiDiscrete([8, 8] * N)` | the same | PPO |
    | `"shares-box"` | `Box(-1, 1, (2N,), float32)` | the same | PPO, SAC |
    | `"shares-discrete"` | `Discrete(8)`, one UE after the other | the same | DQN |

    If the scenario says `retain`, a streaming decision also says what the server is to drop last,
    after `prefetch`: a key of the plan, `(5N,)`, `[M, M, M, 8, 8] * N`, or `M * 2 * 2 * 4`.

    **plan**

    | Key | Space | Meaning |
    |---|---|---|
    | `placements` | `MultiBinary((N, L))` | 0 = layer runs on the UE, 1 = at the edge; entries beyond a UE's last layer are ignored |
    | `prefetch` | `MultiBinary((N, L))` | streaming: 1 = upload the layer after those of the placement, in program order; no effect on layers placed at the edge or beyond the last |
    | `retain` | `MultiBinary((N, L))` | streaming, if the scenario says `retain`: 1 = the server is to drop the layer after all that are not marked |
    | `bandwidth_share` | `Shares(N)`, float64 | part of the band of each UE for the whole round, each >= 0, sum <= 1 |
    | `compute_share` | `Shares(N)`, float64 | part of the server of each UE, each >= 0, sum <= 1 |

    An action that is not a plan raises a `ValueError` and changes nothing: a missing or unknown
    key, a wrong shape or dtype, NaN, negative shares, a sum above 1 (by more than 1e-6), or a zero
    share of a resource that the placement needs.

    **The learned views** choose each UE's placement from a *menu* of its network: at most 16
    sensible placements, found by PBT-DP beforehand or when the environment is made (`docs/menu.md` says how, and
    what it costs against free placement). Entry 0 leaves all layers on the UE, the last entry none;
    the bytes to upload increase in between. Shares are bids: a UE gets its bid over the sum of the
    bids of all UEs that need the resource. So every action is a plan in which every inference ends.

    | View | Numbers of a UE, in this order |
    |---|---|
    | `box` | placement: [-1, 1] is divided into equal parts, one for each entry of the menu; streaming: prefetch, divided in the same way, and the layers that this entry places at the edge are uploaded in addition; perhaps retain, likewise; bandwidth bid, compute bid: the number a bids 8^a. Numbers beyond -1 or 1 are clipped |
    | `multidiscrete` | placement: entry of the menu; streaming: prefetch, the entry whose edge layers are uploaded in addition, 0 = nothing; perhaps retain, the entry whose edge layers are dropped last; bandwidth bid, compute bid: level k of 8 bids 2^(k/2) |
    | `discrete` | `((placement * P + prefetch) * R + retain) * 4 + bid`; P = 2 when streaming, R = 2 where something can be retained, else 1; prefetch 1 uploads all other layers in addition, retain 1 marks all layers; level k bids 2^k, for band and server alike |

    **Shares alone.** In a round's best plan every UE's placement is the best at its shares. So three
    of the learned views leave placements to the environment. A UE bids for band and server. Its
    shares are its bids over the sums of all bids, and it takes the entry of its menu that costs least
    at these shares. UEs that need nothing then give their shares to the others, who choose again. A
    bid is a factor on what the UE's inference would cost all-local, so equal bids share band and
    server as these costs are. A UE that bids nothing for
    one of the two runs all its layers itself.
    Unless energy has a price, no reward is negative. Stock algorithms begin with sensible
    plans here and learn more quickly (`docs/learning.md` has figures).

    When streaming, a UE uploads in addition what its *target* has at the edge, an entry of its menu.
    All targets fit into the server's memory together: a byte of memory has a price, the lowest at
    which they do, and a target is the entry with the least sum of what the UE will cost at the first
    shares with the entry's parameters on the server, and the price of these. Where parameters are
    shared, UEs with the same network have one target. If the scenario says `retain`, the server drops
    the targets' layers last, and a UE whose target is complete uploads what would be best for itself alone.

    | View | Numbers of a UE, in this order |
    |---|---|
    | `shares` | bandwidth bid, compute bid: level 0 bids nothing, level k of 7 bids 2^((k - 4)/2) |
    | `shares-box` | bandwidth bid, compute bid: the number a bids 2^(1.5 a), and nothing at -1. Numbers beyond -1 or 1 are clipped |
    | `shares-discrete` | one level, as in `shares`, for band and server alike |

    With `discrete` and `shares-discrete` a round has N steps, one for each UE in order. The reward
    comes with the last of them and is 0 before, so an episode's sum is that of the other views.

    **Masks.** `info["action_mask"]` shows with 0 the choices that are void: entries beyond the UE's
    own menu (they wrap around it), and with `discrete` also what another action says as well:
    prefetching with all layers at the edge, and any bid but the least where nothing is placed at the edge or uploaded.
    `action_space.sample` takes it: an array of int8 with `discrete`, a tuple with one for each
    number with `multidiscrete`. The array of bool that `action_masks()` returns says the same,
    concatenated, for MaskablePPO; so does the row `infos["action_mask"][e]` of a vector environment,
    whose `sampling_masks()` are for sampling. An action outside the space raises a `ValueError` and
    changes nothing.

    ## Observation space
    `observation` is `"dict"` (the default with `action="plan"`), `"flat"` (with the others) or, with
    the others only, `"outlook"` (the default with shares alone). The first two hold all that a planner needs:
    `mjoa_gym.decode_observation` gives the `Instance` back. The third holds what the simulator makes
    of that for each entry of the menus. It names no network and no device.

    **dict**

    | Key | Shape, dtype | Range | Meaning |
    |---|---|---|---|
    | `dnn` | (N,) int64 | 0 .. D - 1 | index of the UE's network in `scenario.dnns` |
    | `ue_device` | (N,) int64 | 0 .. K - 1 | index of its device in `scenario.ue_devices` |
    | `speed` | (N,) float64 | 0 .. `ue_speed_max` | factor on the device's speed |
    | `weight` | (N,) float64 | 0 .. `weight_max` | weight in the objective |
    | `snr_up` | (N,) float64 | 0 .. `snr_max_db` as a linear ratio | uplink SNR at full band |
    | `snr_down` | (N,) float64 | as `snr_up` | downlink SNR at full band |
    | `uplink_bps` | (N,) float64 | 0 .. the trace's greatest | scenarios with a `trace`, in place of SNRs: rate with the whole band |
    | `downlink_bps` | (N,) float64 | likewise | likewise |
    | `message_s` | (N,) float64 | likewise | scenarios with a `trace`: seconds of a message beside its bytes |
    | `deadline_s` | (N,) float64 | 0 .. the greatest | only if the scenario has deadlines: seconds within which the UE wants its results |
    | `resident` | (N, L) float64 | 0 .. 1 | streaming: fraction of each layer's parameters on the server; 0 beyond the last layer |
    | `idle_rounds` | (N, L) int64 | 0 .. `rounds` | streaming: rounds since a resident layer was last placed at the edge or uploaded; 0 if that was the last round, or nothing is resident |
    | `memory` | (D, L) float64 | 0 .. 1 | streaming, if parameters are shared: fraction of each network's layers on the server, whether or not a UE runs it |
    | `memory_idle` | (D, L) int64 | 0 .. `rounds` | likewise, rounds since each was used |
    | `round` | (1,) int64 | 0 .. `rounds` | rounds that are over |
    | `turn` | (1,) int64 | 0 .. N - 1 | one UE after the other only: the UE to decide about |
    | `chosen` | (N,) int64 | -1 .. actions - 1 | likewise: this round's actions so far, -1 for UEs that are still to act |

    **flat** is a `Box(0, 1, float32)`: for each UE the columns below, then the rounds that are over
    as a part of all, then, if parameters are shared when streaming, the part of each of the D networks'
    bytes that is on the server. Where one UE decides after the other, it begins with the UE to decide about,
    and the others follow in order.

    | Columns | Meaning |
    |---|---|
    | D | network, one-hot |
    | K | device, one-hot |
    | 1, 1 | speed over `ue_speed_max`, weight over `weight_max` |
    | 1, 1 | uplink and downlink SNR in dB, 0 at `snr_min_db`, 1 at `snr_max_db`; with a `trace` the rates, on a logarithmic scale from its least to its greatest |
    | 1 | the UE's part of `sum_i w_i T_i(local)` |
    | 1 | scenarios with a `trace`: seconds of a message over the trace's greatest |
    | 1 | only if the scenario has deadlines: the deadline over `deadline_max_s`, or over `deadline_factor_max` times the UE's all-local seconds |
    | L | streaming: resident fraction of each layer |
    | L | streaming: rounds since each layer was used, over `rounds` |
    | 4 or 5 | `discrete` only: decided or not, and the chosen placement, prefetch, perhaps retain, and bid over their greatest values |
    | 2 | `shares-discrete` only: decided or not, and the chosen bid over the greatest |

    **outlook** is a `Box(0, 1, (N, columns), float32)`, a row for each UE. Seconds are seen in
    relation to the UE's all-local seconds, on a logarithmic scale from e^-7 to e^3, and so are other
    numbers marked *. Columns marked "only" are absent from other scenarios. A UE has the columns of
    the first table, the last of **flat** where one UE decides after the other, and then those
    of the second table for each of the M entries of its menu, or of the third for five bids. Where
    one UE decides after the other, the first row is that of the UE to decide about, and the others
    follow in order. `observation_space.layout` says how many columns there are of
    each kind.

    | Column of a UE | Meaning |
    |---|---|
    | 0, 1 | its all-local seconds, absolute *, and its part of the UEs' all-local costs |
    | 2 | its weight over the greatest |
    | 3, 4 | bit/s with the whole band, up and down, over 20 bit/s for each Hz of it |
    | 5, 6 | fewest seconds over the menu, at an equal and at a generous share * |
    | 7 | streaming: fewest seconds over the menu if nothing were missing *, else 1 |
    | 8 | streaming: seconds to upload all that is missing, at an equal share, over the period * |
    | 9 | streaming: what the server holds of its network, over the server's memory |
    | 10 | streaming: what the server holds in all, over its memory; equal layers that are shared count once |
    | 11 | streaming: rounds still to come over the rounds of an episode, else 1 |
    | 12, 13 | 1 / N, and the mean of all UEs' columns 5, weighted with their columns 1 |
    | next | only when streaming with shared parameters: the part of the UEs that run its network |
    | next | only when streaming with `retain`: u / (1 + u), where u is the mean number of rounds since the bytes that column 9 counts were last used |
    | next | only with deadlines: its deadline over its all-local seconds * |
    | next | only if energy has a price: what its all-local joules count as, over its all-local seconds * |

    | Column of an entry | Meaning; all are zero beyond the menu's end |
    |---|---|
    | 0 | 1: there is such an entry |
    | 1, 2 | seconds of the inference at an equal share, and at a generous one (three times as much) * |
    | 3 | seconds to upload what it misses, at an equal share * |
    | 4 | its seconds on the server, at an equal share * |
    | 5 | streaming: seconds at an equal share if nothing of it were missing *, else 0 |
    | 6 | streaming: the bytes that it misses, over the server's memory, else 0 |
    | next | only when streaming with `retain`: the bytes of its edge layers that are on the server, over the server's memory |
    | next | only with deadlines: 1: it meets the deadline, at an equal share |
    | next | only if energy has a price: joules at an equal share, over the UE's all-local joules * |

    With shares alone there are columns of five bids that the UE might make, in place of those of the
    entries. They are, for band and server, (1, 1), (1/b, 1/b), (b, b), (b, 1) and (1, b), where b is the
    greatest bid, 2^1.5. The others are assumed to bid 1. Columns 5 to 7 of the UE then are of the bids
    (1, 1), of the best of the five, and of the UE's *favourite* at (1, 1): the entry that would be best
    for it with all parameters on the server, of those that fit into memory.

    | Column of a bid | Meaning; seconds are over the UE's all-local seconds, at most 1, and no logarithms |
    |---|---|
    | 0 | 1: the UE would have layers at the edge |
    | 1 | seconds of its inference |
    | 2 | seconds to upload what it misses |
    | 3 | its seconds on the server |
    | 4 | streaming: seconds with its favourite, else 0 |
    | 5 | streaming: the bytes that the favourite misses, over the server's memory, else 0 |
    | next | only when streaming with `retain`: the favourite's bytes that are on the server, over the server's memory |
    | next | only with deadlines: 1: it meets the deadline |
    | next | only if energy has a price: joules over the UE's all-local joules * |

    ## Rewards
    `1 - sum_i C_i / sum_i C_i(local)`: the reduction of the UEs' costs against all-local execution.
    0 for doing nothing, always below 1, negative without bound for harm. What an inference costs is

        C_i = w_i (T_i + energy_price_s_per_j E_i + miss_price_s [T_i > deadline_s])

    with its latency T_i and the joules E_i that it takes from the UE's battery, prefetches
    included. Both prices are 0 unless the scenario says otherwise: the reward then is the reduction
    of the weighted latency.

    ## Info
    `info` has the same keys after `reset` and after every `step`. The entries that describe a round
    are zero unless the step has completed one (where one UE decides after the other, only the last of N does).

    | Key | Kind | Meaning |
    |---|---|---|
    | `round_complete` | bool | whether this step has completed a round |
    | `latency_s`, `local_s` | (N,) float64 | seconds of each UE's inference, and of the same with all layers on the UE |
    | `round_s` | float | seconds of the round: the slowest inference, when streaming at least `period_s` |
    | `missed` | (N,) bool | UEs whose inference has taken longer than their deadline; nobody's without deadlines |
    | `energy_j` | (N,) float64 | joules that each UE has spent on its inference and prefetches; only if the power of all the scenario's UE devices is known, as that of the default ones is (`mjoa_gym.devices.Power`) |
    | `left` | (N,) bool | streaming: UEs that have left after the round |
    | `resident_bytes`, `dropped_bytes` | float | streaming: parameters that the server keeps for the next round, and those dropped for want of memory |
    | `action_mask` | see above | `multidiscrete` and `discrete` only: masks of the next action |

    ## Starting state
    An empty server. UEs are drawn independently: network, device, speed, weight and deadline (if the
    scenario has any; a UE keeps its own while it stays) uniformly, the position uniformly over the
    cell, log-normal shadowing, Rayleigh fading; SNRs are clipped to the stated range. With a `trace`,
    each begins it at a moment drawn uniformly (`docs/uplinks.md`).

    ## Episode end
    Truncation after `rounds` rounds (no `TimeLimit` is needed). It never terminates.

    ## Arguments
    | Name | Default | Meaning |
    |---|---|---|
    | `action` | `"plan"` | the action view |
    | `n_ues` | `None` | N; overrides the scenario's |
    | `scenario` | `None` | a `Scenario`, a dict of the fields that differ from the defaults (`scenario={"bandwidth_hz": 40e6}`) or from a packaged scenario's (`{"base": "ideal", ...}`), a packaged scenario's name or a YAML file's path |
    | `rounds` | `None` | length of an episode; overrides the scenario's |
    | `render_mode` | `None` | `"rgb_array"` (a picture of the last round) or `"ansi"` (as text) |
    | `observation` | `None` | `"dict"`, `"flat"` or `"outlook"`; by default what the action view's agents usually want |

    `gymnasium.make_vec(..., vectorization_mode="vector_entry_point")` makes many in one compiled
    loop, equal to as many single ones; it also takes `autoreset_mode`, `threads` and
    `max_episode_steps` (`mjoa_gym.envs.vector.RoundsVectorEnv`).

    ## Version history
    * v1: another default scenario. It uses properties that came after v0: `message_s`,
      `parameter_bits` and `activation_bits`, `share_parameters`, `retain`. The observation's `device` is
      `ue_device`; `info` has the same keys after `reset` and `step`. In the scenario `ideal` it plays what
      v0 played.
    * v0: first version, never released.

    Attributes:
        core: Dynamics, action view and observation.
        persists: Whether UEs and their parameters stay from round to round.
        title: What pictures call it.
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
        """What makes an environment like this one, alone or as a vector."""
        return self._names | {"scenario": self.scenario}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode with fresh UEs and an empty server.

        Raises:
            ValueError: If there are options; there are none to choose.
        """
        if options:
            raise ValueError(f"options={options!r}: there are none")
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.core.batch.seed(0, self.np_random)
            self._seeded = True
        self.core.begin(EVERYBODY)
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
        outcome, complete = core.step(core.view.single(action), EVERYBODY)
        reward, truncated = float(outcome.reward[0]), bool(core.batch.over()[0])
        return self._observation(), reward, False, truncated, self._info(outcome, complete)

    def action_masks(self) -> NDArray[np.bool_]:
        """(choices,) which choices of the next action mean something of their own.

        For sb3-contrib's MaskablePPO; the choices of a `MultiDiscrete` action are concatenated.
        """
        return self.core.action_masks()[0]

    def render(self) -> Any:
        """The last round and the server's memory: uint8 (height, width, 3), or text for "ansi".

        Before the first round, every UE is shown as if it ran all layers itself.
        """
        if self.core.pictures is None:
            gym.logger.warn('render() needs a render_mode: gym.make(..., render_mode="rgb_array")')
            return None
        if not self._begun:
            raise ResetNeeded("there is nothing to render: call reset() first")
        from mjoa_gym import rendering  # drawing libraries are loaded by those who draw

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
    """`MJOA/ColdStart-v1`: every round brings fresh UEs, and a server that holds nothing of theirs.

    The agent partitions networks and shares band and server; rounds are independent. This is our
    formulation of the setting of MJOA-MU (Yang et al., *Computer Networks* 231, 2023).
    `RoundsEnv` describes actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = False
    title: ClassVar[str] = "ColdStart"


class StreamingEnv(RoundsEnv):
    """`MJOA/Streaming-v1`: UEs stay, and what they upload stays with them.

    The agent also decides what to upload for later. UEs issue one inference in every round, which
    lasts `max(period_s, the slowest inference)`. Parameters that have reached the server by its
    end, complete or in part, are there in the next round. A UE may *prefetch* layers that its
    present inference does not need: they go up when the uplink share would idle, until the round
    ends. Between two rounds the server keeps at most `server_memory_bytes` of parameters and drops
    the least recently used layers first; UEs walk, their shadowing drifts and their fading is drawn
    anew; some leave, their parameters with them, and others with another network take their place.
    What is best for this round is therefore not best for the episode. `RoundsEnv` describes
    actions, observations, rewards and arguments.
    """

    persists: ClassVar[bool] = True
    title: ClassVar[str] = "Streaming"
