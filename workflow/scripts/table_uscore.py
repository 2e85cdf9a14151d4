"""uscore.csv from the U-Scores of every model."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import uscore
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
uscore.build(
    listed(snakemake.input.scores, snakemake.params.models),
    Path(snakemake.output[0]),
    tiers=snakemake.params.tiers,
    statistics=settings.statistics,
)
