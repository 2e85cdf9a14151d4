"""sweeps.csv from the judgements of every point, of the unsteered arm, and the choices."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import sweeps
from polygate.tables.cells import listed

given, wanted = snakemake.input, snakemake.params
settings = stage_settings(wanted.settings)
sweeps.build(
    listed(given.swept, wanted.swept),
    listed(given.unsteered, wanted.unsteered),
    listed(given.choices, wanted.models),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
)
