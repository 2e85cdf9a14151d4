"""A page of its own to search prompts and completions in, from samples.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.report import samples

samples.write(snakemake.input[0], snakemake.output[0])
