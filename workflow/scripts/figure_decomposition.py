"""Failure decomposition per language and model, drawn from decomposition.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import decomposition

decomposition.draw(snakemake.input.decomposition, snakemake.output.figure, snakemake.output.data)
