"""decomposition.csv from the unsteered judgements and the gate scores of every model and language."""

from pathlib import Path

from polygate.settings import stage_settings
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
)
