"""Refusal by tier, drawn from refusal.csv."""

from polygate.figures import refusal_by_tier

refusal_by_tier.draw(snakemake.input.refusal, snakemake.output.figure, snakemake.output.data)
