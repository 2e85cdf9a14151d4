"""F1 of the probes against the number of examples, drawn from probes.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import probes

probes.draw(
    *(snakemake.input.probes, snakemake.input.gates, snakemake.output.figure, snakemake.output.data),
    snakemake.params.rank,
)
