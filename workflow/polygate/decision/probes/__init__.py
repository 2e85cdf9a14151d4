"""Probes compared: what a language's own examples recover, and which probe of the other languages needs them least."""
