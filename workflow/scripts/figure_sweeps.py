"""Layer and strength sweeps, drawn from sweeps.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import sweeps

sweeps.draw(snakemake.input.sweeps, snakemake.output.figure, snakemake.output.data)
