"""What the report shows: figures and tables register here, each from the file of its own rule."""

FIGURES, TABLES = [], []
"""Names of all figures and tables, which their rules add to."""
MARKED = {}
"""Tables that get a mark of languages whose translations are below the thresholds, with how the report shows each."""


def as_figure(name, category, label):
    """A figure of the report: the SVG that its rule makes, under a category of the report's pages."""
    FIGURES.append(name)
    return report(
        f"<results>/figures/{name}.svg",
        caption=f"../../reports/captions/{name}.rst",
        category=category,
        labels={"figure": label},
    )


def as_table(name, label):
    """A table of the report, with the caption that all tables share."""
    TABLES.append(name)
    return marked(name, caption="../../reports/captions/table.rst", category="6 Tables", labels={"table": label})


def marked(name, **shown):
    """A table, shown in the report or not; where translations are measured, without the mark that it gets later."""
    if settings.translation.measured and name != "translation":
        MARKED[name] = shown
        return f"<results>/tables/unmarked/{name}.csv"
    path = f"<results>/tables/{name}.csv"
    return report(path, **shown) if shown else path
