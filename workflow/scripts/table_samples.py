"""samples.csv: prompts with their completions, unsteered beside routed."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import samples
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
samples.build(
    listed(snakemake.input.prompts, snakemake.params.languages),
    listed(snakemake.input.completions, snakemake.params.judgements),
    listed(snakemake.input.judgements, snakemake.params.judgements),
    Path(snakemake.output[0]),
    samples=settings.report.samples,
    seed=settings.seed,
)
