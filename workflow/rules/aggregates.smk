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
        {"model": model, "tier": settings.languages.tier(language), "language": language}
        for model in MODELS
        for language in LANGUAGES
    ]


def language_cells():
    """Every language, for files that no model takes part in."""
    return [{"model": "", "tier": settings.languages.tier(language), "language": language} for language in LANGUAGES]


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
    return arm_files(f"<results>/{{model}}/judgements/{JUDGE}/{{arm}}/{{language}}.parquet")


def completion_files():
    """Completions of every model, language and arm."""
    return arm_files("<results>/{model}/completions/{arm}/{language}.parquet")


TIERS = {tier: getattr(settings.languages, tier) for tier in ("high", "mid", "low")}
FIGURES = [
    *("answers", "separability", "projections", "recoverability", "refusal_by_tier"),
    *("decomposition", "gate_f1", "probes", "selectivity"),
]


def low_doses():
    """Refused examples of every aligned model in every low-resource language; none unless models differ in them."""
    given = [
        {"model": name, "language": language, "dose": model.alignment.harmful(language, settings.languages)}
        for name, model in settings.models.items()
        if model.alignment is not None
        for language in settings.languages.low
    ]
    differ = any(len({one["dose"] for one in given if one["language"] == name}) > 1 for name in settings.languages.low)
    return given if differ else []


DOSES = low_doses()
if DOSES:
    FIGURES.append("dose")
CAPTIONS = [*FIGURES, "diagnosis", "samples", "published", "table"]


def relative(path):
    """A path from here, so that a checkout that has moved has nothing to redo."""
    return os.path.relpath(path)


BASE = Path(workflow.basedir)
REPORTS = Path(relative((BASE.parent if BASE.name == "workflow" else BASE) / "reports"))


def first_page():
    """The text that the report opens with: the answers once they are known, their empty frame before."""
    answers = Path(f"results/{settings.run}/report/opening.rst")
    return str(answers.absolute()) if answers.exists() else "../../reports/workflow.rst"


def as_table(name, label):
    """A table of the report, with the caption that all tables share."""
    return report(
        f"<results>/tables/{name}.csv",
        caption="../../reports/captions/table.rst",
        category="6 Tables",
        labels={"table": label},
    )
