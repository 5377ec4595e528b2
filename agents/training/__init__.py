"""Training Stable-Baselines3's algorithms on the environments, so that it can be interrupted."""
