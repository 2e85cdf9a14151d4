"""The figure of the report's first page: whether each model knows, acts and is repaired."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import answers

answers.draw(
    snakemake.input.refusal,
    snakemake.input.separability,
    snakemake.input.choices,
    snakemake.output.figure,
    snakemake.output.data,
)
