"""positions.csv from scores by position, both baselines and unsteered judgements of every model and language."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import positions
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
positions.build(
    listed(snakemake.input.scores, snakemake.params.cells),
    listed(snakemake.input.surfaces, snakemake.params.languages),
    listed(snakemake.input.judgements, snakemake.params.judgements),
    listed(snakemake.input.choices, snakemake.params.models),
    Path(snakemake.output[0]),
    high=snakemake.params.high,
    statistics=settings.statistics,
    seed=settings.seed,
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
)
