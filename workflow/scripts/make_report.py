"""reports/report.html, by a nested call of Snakemake over the finished workflow."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from pathlib import Path

from polygate.report import make

make.write_config(snakemake.output.config, snakemake.config)
make.build(
    make.Nested(Path(snakemake.params.snakefile), snakemake.config, Path.cwd()),
    [*snakemake.input.figures, *snakemake.input.tables, snakemake.input.samples, snakemake.input.paper_vs_measured],
    Path(snakemake.input.stylesheet),
    Path(snakemake.output.report),
    title=f"polygate: {snakemake.params.run}",
    log=Path(snakemake.log[0]),
)
