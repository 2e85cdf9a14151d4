"""findings.json: the three questions answered per model, from the tables."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import findings

findings.build(
    **{name: Path(snakemake.input[name]) for name in snakemake.params.tables},
    output=Path(snakemake.output[0]),
    confidence=stage_settings(snakemake.params.settings).statistics.confidence,
)
