"""Refusal by tier, drawn from refusal.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import refusal_by_tier

refusal_by_tier.draw(snakemake.input.refusal, snakemake.output.figure, snakemake.output.data)
