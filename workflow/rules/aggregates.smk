"""The cells that tables and figures are made of: their files, and in the same order what each is of."""


def table_code(name):
    """Hash of everything that a table's module imports within polygate."""
    return code_hash(f"polygate.tables.{name}")


def figure_code(name):
    """Hash of everything that a figure's module imports within polygate."""
    return code_hash(f"polygate.figures.{name}")


def model_cells():
    """Every model and language."""
    return [
        {"model": model, "tier": settings.languages.tier(language), "dataset": MAIN, "language": language}
        for model in MODELS
        for language in LANGUAGES
    ]


def language_cells():
    """Every language, for files that no model takes part in."""
    return [
        {"model": "", "tier": settings.languages.tier(language), "dataset": MAIN, "language": language}
        for language in LANGUAGES
    ]


def whole_models():
    """Every model, for files that belong to no language."""
    return [{"model": model, "tier": "", "language": ""} for model in MODELS]


def judged_cells():
    """Every model, language and arm, routed arms by budget."""
    arms = [(arm, None) for arm in ARMS] + [("routed", budget) for budget in BUDGETS]
    return [{**cell, "arm": arm, "budget": budget, "judge": JUDGE} for arm, budget in arms for cell in model_cells()]


def arm_files(pattern):
    """`pattern` for the cells of `judged_cells`, in their order."""
    return [file for arm in [*ARMS, *ROUTED] for file in expand(pattern, arm=arm, model=MODELS, language=LANGUAGES)]


def judgement_files():
    """Judgements of every model, language and arm."""
    return arm_files(f"<results>/{{model}}/judgements/{JUDGE}/{{arm}}/<main>/{{language}}.parquet")


def tested_judged_cells():
    """Every model, language and arm of the data sets that are only tested on, routed arms by budget."""
    routed = [("routed", budget) for budget in BUDGETS]
    return [
        {
            **{"model": model, "tier": settings.languages.tier(language), "dataset": dataset, "language": language},
            **{"arm": arm, "budget": budget, "judge": JUDGE},
        }
        for dataset, language in prompt_tables()
        if dataset != MAIN
        for arm, budget in [*((arm, None) for arm in arms_of(dataset)), *(routed if dataset in STEERED_SETS else [])]
        for model in MODELS
    ]


def arm_of(cell):
    """The folder that an arm's files lie in: routed arms are called after their budget."""
    return cell["arm"] if cell["budget"] is None else f"routed-{cell['budget']}"


def tested_judgement_files():
    """Judgements of the cells of `tested_judged_cells`, in their order."""
    return [
        f"<results>/{cell['model']}/judgements/{JUDGE}/{arm_of(cell)}/{cell['dataset']}/{cell['language']}.parquet"
        for cell in tested_judged_cells()
    ]


def task_cells():
    """Every model and language of the tasks."""
    return [
        {"model": model, "tier": settings.languages.tier(language), "dataset": dataset, "language": language}
        for dataset in TASKS
        for model in MODELS
        for language in DATASETS[dataset]
    ]


def ood_cells():
    """Every model and language of the data sets that gates are tried on out of distribution."""
    return [
        {"model": model, "tier": settings.languages.tier(language), "dataset": dataset, "language": language}
        for dataset in OOD
        for model in MODELS
        for language in DATASETS[dataset]
    ]


def scored_cells():
    """Every model, language and arm of the tasks; routed arms follow from these."""
    return [{**cell, "arm": arm} for cell in task_cells() for arm in ARMS]


def asked_cells():
    """Every language of the tasks, for their prompt tables."""
    return [
        {"model": "", "tier": settings.languages.tier(language), "dataset": dataset, "language": language}
        for dataset in TASKS
        for language in DATASETS[dataset]
    ]


def files_of(pattern, cells):
    """`pattern` for each of `cells`, in their order."""
    return [path for cell in cells for path in expand(pattern, **cell)]


def completion_files():
    """Completions of every model, language and arm."""
    return arm_files("<results>/{model}/completions/{arm}/<main>/{language}.parquet")


FIGURES, TABLES = [], []
"""Names of all figures and tables, which their rules add to."""


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
    return report(
        f"<results>/tables/{name}.csv",
        caption="../../reports/captions/table.rst",
        category="6 Tables",
        labels={"table": label},
    )
