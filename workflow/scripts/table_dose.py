"""dose.csv from the finished tables and the doses of the aligned models."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.tables import dose

dose.build(
    snakemake.params.doses,
    Path(snakemake.output[0]),
    **{name: Path(path) for name, path in snakemake.input.items()},
    rank=snakemake.params.rank,
    budgets=snakemake.params.budgets,
    confidence=snakemake.params.confidence,
)
