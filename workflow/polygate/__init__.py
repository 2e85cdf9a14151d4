"""polygate: does a chat model know that a prompt is harmful, does it act on it, can a few examples repair it?"""
