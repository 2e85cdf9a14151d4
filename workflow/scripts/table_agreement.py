"""agreement.csv and corrected.csv from the judgements of every judge, and people's labels where there are any."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.judges import labels
from polygate.settings.types import stage_settings
from polygate.tables import agreement
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
cells = listed(snakemake.input.judgements, snakemake.params.judgements)
known = [list(dict.fromkeys(getattr(cell, name) for cell in cells)) for name in ("model", "language", "arm")]
given = Path(snakemake.input.labels) if snakemake.input.get("labels") else None
agreement.build(
    cells,
    labels.read(given, *known, log=print) if given else {},
    Path(snakemake.output.agreement),
    Path(snakemake.output.corrected),
    statistics=settings.statistics,
    seed=settings.seed,
    labelled=given,
)
