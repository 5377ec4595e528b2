"""Small environments with everything that adapters must carry: dictionaries, masks, both ends."""

from typing import ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

N_ACTIONS = 3


class ToyEnv(gym.Env):
    """Ends by chance, mostly with a truncation, sometimes with a termination, even with both."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 5}
    action_space = Discrete(N_ACTIONS)

    def __init__(self, with_dict=True, render_mode=None):
        number = Box(-1.0, 1.0, (2,), np.float32)
        spaces = Dict({"number": number, "clock": Box(0, 100, (1,), np.int64)})
        self.with_dict = with_dict
        self.observation_space = spaces if with_dict else number
        self.render_mode = render_mode
        self.bonus = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = (options or {}).get("clock", 0)
        return self._observation(), {"start": float(self.np_random.random())}

    def step(self, action):
        self.clock += 1
        ends = self.np_random.random(2) < (0.05, 0.1)
        observation = self._observation()
        info = {"draws": self.np_random.random(2), "nested": {"clock": self.clock}}
        if ends.any():
            info["is_success"] = bool(ends[0])
        return observation, float(action) + self.bonus, bool(ends[0]), bool(ends[1]), info

    def action_masks(self):
        return np.arange(N_ACTIONS) != self.clock % N_ACTIONS

    def render(self):
        return np.full((4, 4, 3), self.clock, np.uint8)

    def _observation(self):
        number = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        clock = np.array([self.clock], np.int64)
        return {"number": number, "clock": clock} if self.with_dict else number


class ToyVectorEnv(VectorEnv):
    """Counts to three in all environments at once; no single environments inside."""

    metadata: ClassVar = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.single_observation_space = Box(0, 3, (1,), np.float32)
        self.single_action_space = Discrete(N_ACTIONS)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.seen = []

    def reset(self, *, seed=None, options=None):
        self.seen.append((seed, options))
        self.clock = np.zeros((self.num_envs, 1), np.float32)
        return self.clock.copy(), {}

    def step(self, actions):
        self.clock += 1
        ended = self.clock[:, 0] == 3
        infos = {}
        if ended.any():
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(ended):
                final[i] = self.clock[i].copy()
            infos = {"final_obs": final, "_final_obs": ended, "final_info": {}}
            self.clock[ended] = 0
        never = np.zeros(self.num_envs, bool)
        return self.clock.copy(), actions.astype(np.float64), never, ended, infos

    def action_masks(self):
        masks = np.ones((self.num_envs, N_ACTIONS), bool)
        masks[:, 0] = self.clock[:, 0] > 0
        return masks

    def one_too_few(self):
        return [0] * (self.num_envs - 1)
