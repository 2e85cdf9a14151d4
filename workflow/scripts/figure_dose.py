"""Refusal, AUC and gate F1 against the dose, drawn from dose.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import dose

dose.draw(snakemake.input.dose, snakemake.output.figure, snakemake.output.data)
