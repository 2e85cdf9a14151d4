"""separability.csv from projections, gate scores and surface baselines of every model and language."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import separability
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
separability.build(
    listed(snakemake.input.projections, snakemake.params.cells),
    listed(snakemake.input.gate_scores, snakemake.params.cells),
    listed(snakemake.input.surfaces, snakemake.params.languages),
    listed(snakemake.input.choices, snakemake.params.models),
    Path(snakemake.output[0]),
    rank=settings.gate.rank,
    statistics=settings.statistics,
    seed=settings.seed,
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
)
