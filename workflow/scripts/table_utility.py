"""utility.csv from the option scores of every model, language and arm of the tasks, and what the gates say of them."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.settings.types import stage_settings
from polygate.tables import utility
from polygate.tables.cells import listed

settings = stage_settings(snakemake.params.settings)
utility.build(
    listed(snakemake.input.scores, snakemake.params.scored),
    listed(snakemake.input.gate_scores, snakemake.params.cells),
    listed(snakemake.input.prompts, snakemake.params.asked),
    Path(snakemake.output[0]),
    rank=settings.gate.rank,
    budgets=settings.gate.budgets,
    statistics=settings.statistics,
    seed=settings.seed,
)
