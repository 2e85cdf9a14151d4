"""The figure drawn from transfer.csv."""

from polygate.figures import transfer

transfer.draw(snakemake.input.transfer, snakemake.output.figure, snakemake.output.data)
