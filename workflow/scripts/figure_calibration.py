"""Misses and false flags of rules of calibration against the number of examples, drawn from calibration.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import calibration

calibration.draw(snakemake.input.calibration, snakemake.output.figure, snakemake.output.data, snakemake.params.alphas)
