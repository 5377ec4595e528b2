"""Builds the packaged model catalogue from real architectures; needs torch and torchvision."""
