"""Densities of projections on v_HRL by tier, drawn from the projections of every model and language."""

from polygate.figures import projections

paths = iter(snakemake.input.projections)
projections.draw(
    snakemake.input.choices,
    {model: {language: next(paths) for language in snakemake.params.languages} for model in snakemake.params.models},
    snakemake.params.tiers,
    snakemake.output.figure,
    snakemake.output.data,
)
