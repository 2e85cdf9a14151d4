"""Figure: agreement of judges with one another and with people, from agreement.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import agreement

agreement.draw(snakemake.input.agreement, snakemake.output.figure, snakemake.output.data)
