"""reports/report.html, by a nested call of Snakemake over the finished workflow."""

from pathlib import Path

import yaml

from polygate.files import write_text
from polygate.report import make

write_text(snakemake.output.config, yaml.safe_dump(snakemake.config, sort_keys=True, allow_unicode=True))
make.build(
    make.Nested(Path(snakemake.params.snakefile), Path(snakemake.output.config), Path.cwd()),
    [*snakemake.input.figures, *snakemake.input.tables, snakemake.input.samples, snakemake.input.published],
    Path(snakemake.input.stylesheet),
    Path(snakemake.output.report),
    title=f"polygate: {snakemake.params.run}",
    log=Path(snakemake.log[0]),
)
