"""Published architectures that torchvision does not have, as plain modules."""
