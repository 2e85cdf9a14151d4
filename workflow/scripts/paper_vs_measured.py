"""paper_vs_measured.csv and its page, from the finished tables of a run."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.report import paper_vs_measured
from polygate.report.comparable import Run

paper_vs_measured.build(
    dict(snakemake.input.items()),
    snakemake.params.models,
    Run(**snakemake.params.run),
    Path(snakemake.output.table),
    Path(snakemake.output.page),
)
