"""Accuracy on the tasks by arm and tier, drawn from utility.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import utility

utility.draw(snakemake.input.utility, snakemake.output.figure, snakemake.output.data)
