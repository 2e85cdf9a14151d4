"""A table with one more column: languages of its rows whose translations are below the thresholds."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.tables.marking import mark

mark(Path(snakemake.input.table), Path(snakemake.input.translation), Path(snakemake.output[0]))
