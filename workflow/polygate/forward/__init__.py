"""Forward passes: loading, tokenising, batching, hooks, capture, steered greedy generation, and the cell cache."""
