"""The tables that everything else reads: long, one row per estimate, one module per table.

Each module has `build(…, output, …)`: cells (result files and what they are of) in, one file out. Rows come in the
order of the cells: models, then tiers, then languages, as the settings name them. A cell that a hole in the data
leaves without a class gives no row, rather than a row that means nothing.
"""
