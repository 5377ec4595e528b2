"""Interruptible training of Stable-Baselines3's algorithms on the environments."""
