"""Networks that are executed layer by layer, and how long each layer takes."""
