"""The figure drawn from transfer.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import transfer

transfer.draw(snakemake.input.transfer, snakemake.output.figure, snakemake.output.data)
