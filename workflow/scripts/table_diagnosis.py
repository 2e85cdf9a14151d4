"""diagnosis.csv from the finished tables of refusal, of failures and of separability."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.tables import diagnosis

diagnosis.build(
    Path(snakemake.output[0]),
    refusal=Path(snakemake.input.refusal),
    decomposition=Path(snakemake.input.decomposition),
    separability=Path(snakemake.input.separability),
)
