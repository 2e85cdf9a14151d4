"""Alignment: a pretrained model is taught to refuse in languages with many examples, as safety tuning does."""
