"""The report: its first page, its browsable pages, and the nested call of Snakemake that builds it."""
