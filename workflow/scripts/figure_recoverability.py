"""AUC of few-shot directions against the number of examples, drawn from recoverability.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import recoverability

recoverability.draw(
    snakemake.input.recoverability, snakemake.input.separability, snakemake.output.figure, snakemake.output.data
)
