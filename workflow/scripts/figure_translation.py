"""How good translations are, drawn from translation.csv."""

from polygate.figures import translation

translation.draw(snakemake.input.translation, snakemake.output.figure, snakemake.output.data)
