"""The cells that tables and figures are made of: their files, and in the same order what each is of.

Many rules read the same cells, of which there are thousands in a large run: they are listed once.
"""


def table_code(name):
    """Hash of everything that a table's module imports within polygate."""
    return code_hash(f"polygate.tables.{name}")


def figure_code(name):
    """Hash of everything that a figure's module imports within polygate."""
    return code_hash(f"polygate.figures.{name}")


@cache
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


def semantic_files():
    """What the sentence encoder tells of every language, in the order of `language_cells`; nothing without one."""
    return encoded(expand("<results>/semantic/{language}.parquet", language=LANGUAGES))


def semantic_cells():
    """Every language where there is a sentence encoder."""
    return encoded(language_cells())


def whole_models():
    """Every model, for files that belong to no language."""
    return [{"model": model, "tier": "", "language": ""} for model in MODELS]


def cast_strengths(models):
    """The choices of adapted CAST's strength for these models; none where the settings fix it or nothing is adapted."""
    asked = settings.baselines.chooses_cast_strength and settings.languages.low
    return expand("<results>/{model}/baselines/cast-strength.parquet", model=models if asked else [])


def fixed_cast_strength():
    """The strength of adapted CAST where the settings fix it, None where it is chosen or nothing is adapted."""
    asked = "cast" in settings.baselines.methods and settings.languages.low
    return settings.baselines.cast.strength if asked else None


@cache
def judged_cells():
    """Every model, language and arm, routed arms by budget, baselines in low-resource languages."""
    arms = [(arm, None) for arm in ARMS] + [("routed", budget) for budget in BUDGETS]
    everywhere = [(cell, *arm) for arm in arms for cell in model_cells()]
    cells = everywhere + [(cell, arm, None) for arm, cell in baseline_cells()]
    return [{**cell, "arm": arm, "budget": budget, "judge": JUDGE} for cell, arm, budget in cells]


@cache
def baseline_cells():
    """Every baseline with every model that has it and every low-resource language."""
    return [
        (arm, cell)
        for arm in BASELINES
        for cell in model_cells()
        if cell["tier"] == "low" and arm in baselines_of(cell["model"])
    ]


def arm_files(pattern):
    """`pattern` for the cells of `judged_cells`, in their order."""
    everywhere = [(arm, cell) for arm in [*ARMS, *ROUTED] for cell in model_cells()]
    return files_of(pattern, [{**cell, "arm": arm} for arm, cell in everywhere + baseline_cells()])


@cache
def judgement_files():
    """Judgements of every model, language and arm."""
    return arm_files(f"<results>/{{model}}/judgements/{JUDGE}/{{arm}}/<main>/{{language}}.parquet")


def beside(cells):
    """The same cells for every further judge, in the languages that it judges."""
    return [{**cell, "judge": judge} for judge in JUDGES[1:] for cell in cells if cell["language"] in JUDGED[judge]]


@cache
def every_judged_cell():
    """Cells of every judge and data set: those of the first judge, the fitted data set's before the others'."""
    first = judged_cells() + tested_judged_cells()
    return first + beside(first)


@cache
def every_judgement_file():
    """Judgements of the cells of `every_judged_cell`, in their order."""
    return [judgement_file(cell) for cell in every_judged_cell()]


def agreement_cells():
    """Cells whose judges are compared: of the fitted data set, routed arms left out, since they select from others."""
    first = [cell for cell in judged_cells() if cell["budget"] is None]
    return first + beside(first)


def judgement_file(cell):
    """The judgements of a cell."""
    arm = cell["arm"] if cell["budget"] is None else f"{cell['arm']}-{cell['budget']}"
    return f"<results>/{cell['model']}/judgements/{cell['judge']}/{arm}/{cell['dataset']}/{cell['language']}.parquet"


def completion_files():
    """Completions of every model, language and arm."""
    return arm_files("<results>/{model}/completions/{arm}/<main>/{language}.parquet")


def low_doses():
    """Refused examples of every aligned model in every low-resource language; none unless models differ in them.

    `alike`: the first of the models that differ in their seed alone.
    """
    taught = {name: model for name, model in settings.models.items() if model.alignment is not None}
    but_for_seed = {name: model.model_dump_json(exclude={"seed"}) for name, model in taught.items()}
    first = {described: name for name, described in reversed(but_for_seed.items())}
    given = [
        {
            "model": name,
            "language": language,
            "dose": model.alignment.harmful(language, settings.languages),
            "seed": model.seed,
            "alike": first[but_for_seed[name]],
        }
        for name, model in taught.items()
        for language in settings.languages.low
    ]
    differ = any(len({one["dose"] for one in given if one["language"] == name}) > 1 for name in settings.languages.low)
    return given if differ else []
