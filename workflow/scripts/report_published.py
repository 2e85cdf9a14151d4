"""The paper's printed numbers beside what this run measured, as a page and the CSV behind it."""

from polygate.report import published

published.write(
    **dict(snakemake.input.items()),
    models=snakemake.params.models,
    data=snakemake.output.data,
    page=snakemake.output.page,
)
