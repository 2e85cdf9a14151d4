"""Prompts: one table per language, whatever they were read from."""
