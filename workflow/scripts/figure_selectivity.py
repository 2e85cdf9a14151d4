"""Selectivity by arm and language, drawn from selectivity.csv."""

from polygate.figures import selectivity

selectivity.draw(snakemake.input.selectivity, snakemake.output.figure, snakemake.output.data)
