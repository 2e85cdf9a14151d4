"""Which languages are translated, by what, and where the inputs of their jobs lie."""

GIVEN = by_files(settings)
"""Files of translations made elsewhere, by direction and language."""
TRANSLATED = list(settings.translation.languages)
"""Languages whose prompts are translated from the pivot's."""
MEASURED = settings.translation.measured
"""Languages whose translations are measured."""
READ_TRANSLATIONS = {f"{direction}/{language}": str(path) for (direction, language), path in GIVEN.items()}
"""Translations that are read, as direction/language, with their files."""
MADE_TRANSLATIONS = [
    name
    for name in [*(f"there/{language}" for language in TRANSLATED), *(f"back/{language}" for language in MEASURED)]
    if name not in READ_TRANSLATIONS
]
"""Translations that the model makes."""


def translated_language(wildcards):
    """The job's language, the one that isn't the pivot."""
    return wildcards.translated.partition("/")[2]


def translated_direction(wildcards):
    """there, from the pivot's language, or back."""
    return wildcards.translated.partition("/")[0]


def translated_prompts(wildcards):
    """Input function: the prompt table that is translated."""
    into = translated_direction(wildcards) == "there"
    return f"<results>/prompts/<main>/{settings.pivot if into else translated_language(wildcards)}.parquet"


def translator_folder():
    """The folder of the translation model, given or downloaded; nothing without one."""
    translation = settings.translation
    return str(translation.folder or "resources/translator") if translation.has_model else []


def translator_download():
    """The translation model as what a download reads of a model, as JSON."""
    return dump({"model": {"hub": settings.translation.hub, "revision": settings.translation.revision}})


def translation_settings(wildcards):
    """What a translation reads of the settings, as JSON: its own language alone."""
    return dump({"translation": settings.translation.only(translated_language(wildcards))})


def translation_mem(wildcards, attempt):
    """Weights once on their way to the device, and as much again for what is being written."""
    weights = settings.translation.parameters * (4 if settings.translation.dtype == "float32" else 2) / 1e9
    return f"{int((2 + 2 * weights) * attempt) + 1}GB"


def translation_minutes(wildcards, attempt):
    """About 2,000 prompts, 2 s each and beam for a model of eight billion parameters and 128 tokens."""
    translation = settings.translation
    work = 2000 * (translation.parameters / 8e9) * (translation.max_tokens / 128) * translation.beams * 2 / 60
    return int((10 + work) * attempt)


def translations_there(wildcards):
    """Input function: the job's translations, nothing where its prompts come from elsewhere."""
    return f"<results>/translations/there/{wildcards.language}.parquet" if wildcards.language in TRANSLATED else []


def translation_embeddings(wildcards):
    """Input function: embeddings of the pivot's prompts and of the job's language, nothing without an encoder."""
    languages = encoded([settings.pivot, wildcards.language])
    return [f"<results>/embeddings/<main>/{language}.safetensors" for language in languages]


def measured_cells():
    """Every language whose translations are measured, in the order of the run's languages."""
    return [cell for cell in language_cells() if cell["language"] in MEASURED]


def translation_table():
    """The table that says which languages are below the thresholds; nothing where no translation is measured."""
    return "<results>/tables/translation.csv" if MEASURED else []
