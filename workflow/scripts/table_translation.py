"""translation.csv from what the back-translations of every translated language say."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import TranslationThresholds, stage_settings
from polygate.tables import translation
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
translation.build(
    listed(snakemake.input.compared, snakemake.params.cells),
    Path(snakemake.output[0]),
    thresholds=TranslationThresholds(**snakemake.params.thresholds),
    statistics=settings.statistics,
    seed=settings.seed,
)
