"""How good translations are, drawn from translation.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import translation

translation.draw(snakemake.input.translation, snakemake.output.figure, snakemake.output.data)
