"""What the prompts give away without any model: surface baselines, and matched comparisons."""
