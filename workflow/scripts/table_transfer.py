"""transfer.csv from the transferred gates of every model and the surface and semantic baselines."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import transfer
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
transfer.build(
    listed(snakemake.input.transfers, snakemake.params.models),
    listed(snakemake.input.surfaces, snakemake.params.languages),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
)
