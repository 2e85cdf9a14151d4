"""calibration.csv from the decisions of every rule, model and language, the controls' beside them."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import calibration
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
calibration.build(
    listed(snakemake.input.decisions, snakemake.params.models),
    listed(snakemake.input.prompts, snakemake.params.languages),
    Path(snakemake.output[0]),
    settings=settings.calibration,
    statistics=settings.statistics,
    seed=settings.seed,
    semantics=listed(snakemake.input.semantics, snakemake.params.encoded),
    on_val=settings.gate.threshold_on == "val",
)
