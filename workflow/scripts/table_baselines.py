"""baselines.csv from the judgements of every model and arm in low-resource languages."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import baselines
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
baselines.build(
    listed(snakemake.input.judgements, snakemake.params.judgements),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
)
