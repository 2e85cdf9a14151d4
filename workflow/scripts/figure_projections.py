"""Densities of projections on v_HRL by tier, drawn from the projections of every model and language."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import projections
from polygate.tables.cells import listed

models, languages = snakemake.params.models, snakemake.params.languages
keys = [{"model": model, "tier": "", "language": language} for model in models for language in languages]
paths = iter(cell.path for cell in listed(snakemake.input.projections, keys))
projections.draw(
    snakemake.input.choices,
    {model: {language: next(paths) for language in languages} for model in models},
    snakemake.params.tiers,
    snakemake.output.figure,
    snakemake.output.data,
)
