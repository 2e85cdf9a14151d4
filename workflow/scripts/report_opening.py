"""The text of the report's first page, from the findings and one figure."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.report import opening

opening.write(
    snakemake.input.findings,
    snakemake.input.figure,
    snakemake.input.frame,
    snakemake.output[0],
    translation=snakemake.input.get("translation"),
    run=opening.Run(
        snakemake.params.run,
        snakemake.params.models,
        snakemake.params.tiers,
        snakemake.params.as_released,
        snakemake.params.organisms,
    ),
)
