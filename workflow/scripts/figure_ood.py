"""Balanced accuracy of the gates out of distribution against budget, drawn from ood.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import ood

ood.draw(snakemake.input.ood, snakemake.output.figure, snakemake.output.data)
