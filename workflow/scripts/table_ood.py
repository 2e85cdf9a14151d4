"""ood.csv from what the gates of every model and language say of data sets that they were not fitted on."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import ood
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
ood.build(
    listed(snakemake.input.scores, snakemake.params.cells),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
)
