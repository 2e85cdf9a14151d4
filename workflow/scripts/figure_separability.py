"""AUC of v_HRL per language and model beside its surface baseline, drawn from separability.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import separability

separability.draw(snakemake.input.separability, snakemake.input.choices, snakemake.output.figure, snakemake.output.data)
