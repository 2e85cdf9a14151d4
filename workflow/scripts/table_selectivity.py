"""selectivity.csv from the judgements of every model, language and arm."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import selectivity
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
selectivity.build(
    listed(snakemake.input.judgements, snakemake.params.judgements),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
)
