"""Chat models: loading, tokenising, hooks, capture of activations, steered greedy generation, and the cell cache."""
