"""What a model represents: the activation store, directions, and the subspace they span."""
