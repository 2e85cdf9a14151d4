"""recoverability.csv or probes.csv from the means of every model."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import probes
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
probes.build(
    listed(snakemake.input.means, snakemake.params.models),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
)
