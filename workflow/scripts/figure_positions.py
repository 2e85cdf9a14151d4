"""AUC by layer and token position, per tier and model, drawn from positions.csv."""

from polygate import scripting

scripting.begin(snakemake.log[0])

from polygate.figures import positions

positions.draw(snakemake.input.positions, snakemake.output.figure, snakemake.output.data)
