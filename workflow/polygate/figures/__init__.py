"""Figures: one module per figure.

Each module has `select` (tables → exactly the numbers that are drawn), `plot` (those numbers → a matplotlib figure)
and `draw` (files → an SVG and the CSV behind it). Estimates are fractions in the tables and percent in the figures
where they are rates; AUC and F1 stay between 0 and 1.
"""
