"""The figure drawn from uscore.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import uscore

uscore.draw(snakemake.input.uscore, snakemake.output.figure, snakemake.output.data)
