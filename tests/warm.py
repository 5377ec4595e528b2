"""What `forked` has its programs inherit: kernels that are loaded, and menus that are found."""

import gymnasium as gym

import mjoa_gym  # noqa: F401

for name in ("MJOA/ColdStart-v1", "MJOA/Streaming-v1"):
    env = gym.make(name, action="multidiscrete")
    env.reset(seed=0)
    env.step(env.action_space.sample())
