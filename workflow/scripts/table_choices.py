"""choices.csv from the choices of every model."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.tables import choices
from polygate.tables.cells import listed

choices.build(
    listed([*snakemake.input.choices, *snakemake.input.cast], snakemake.params.models),
    Path(snakemake.output[0]),
    snakemake.params.cast_strength,
)
