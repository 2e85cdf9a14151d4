"""F1 of the gate against the number of examples, drawn from gates.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import gate_f1

gate_f1.draw(snakemake.input.gates, snakemake.output.figure, snakemake.output.data, snakemake.params.rank)
