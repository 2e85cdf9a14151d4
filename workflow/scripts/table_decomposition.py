"""decomposition.csv from the unsteered judgements, the gate scores and the surface gates of every language."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import decomposition
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
decomposition.build(
    listed(snakemake.input.judgements, snakemake.params.judgements),
    listed(snakemake.input.gate_scores, snakemake.params.cells),
    Path(snakemake.output[0]),
    rank=settings.gate.rank,
    statistics=settings.statistics,
    seed=settings.seed,
    surfaces=listed(snakemake.input.surfaces, snakemake.params.languages),
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
)
