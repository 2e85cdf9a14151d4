"""Figure of published ways of steering from selectivity.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import baselines

baselines.draw(snakemake.input.selectivity, snakemake.output.figure, snakemake.output.data)
