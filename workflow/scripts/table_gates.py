"""gates.csv from the gate scores of every model and language, the surface gates beside them."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import gates
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
gates.build(
    listed(snakemake.input.gate_scores, snakemake.params.cells),
    Path(snakemake.output[0]),
    statistics=settings.statistics,
    seed=settings.seed,
    surfaces=listed(snakemake.input.surfaces, snakemake.params.languages),
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
)
