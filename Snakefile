"""The entry point: `snakemake --cores all` runs the workflow with config/config.yaml, the paper's settings."""


include: "workflow/Snakefile"


rule default:
    default_target: True
    input:
        rules.all.input,
