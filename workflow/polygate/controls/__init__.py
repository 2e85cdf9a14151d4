"""What is known without the model: surface baselines, matched comparisons, what a small sentence encoder tells."""
