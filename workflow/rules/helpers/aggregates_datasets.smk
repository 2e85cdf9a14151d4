"""The cells of data sets that are only tested on, and their files."""

@cache
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
    return [pattern.format(**cell) for cell in cells]
