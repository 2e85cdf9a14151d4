"""The figure drawn from uscore.csv."""

from polygate.figures import uscore

uscore.draw(snakemake.input.uscore, snakemake.output.figure, snakemake.output.data)
