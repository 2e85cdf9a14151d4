"""Selectivity by arm and language, drawn from selectivity.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import selectivity

selectivity.draw(snakemake.input.selectivity, snakemake.output.figure, snakemake.output.data)
