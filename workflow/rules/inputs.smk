"""Where the inputs of rules lie: prompts, data sets, models and phrases as the settings name them."""


def extra_file(language):
    """The user's own file for a language, None when there is none."""
    found = None if settings.prompts.extra is None else find(settings.prompts.extra, language)
    return None if found is None else str(found)


def dataset_of(wildcards):
    """The settings of the job's data set."""
    return settings.datasets[wildcards.dataset]


def dataset_folder(wildcards):
    """Where the files of the job's data set lie, None for what is made here."""
    dataset = dataset_of(wildcards)
    if dataset.folder is not None or dataset.source == "organism":
        return dataset.folder
    within = Path("resources", dataset.source)
    return within / wildcards.language if dataset.source == "global_mmlu" else within


def dataset_files(wildcards):
    """Input function: the data set's own files of the job's language, or the folder that they are downloaded to."""
    dataset, folder = dataset_of(wildcards), dataset_folder(wildcards)
    if dataset.folder is not None:
        return [str(path) for path in sources_of(dataset).files(dataset.folder, wildcards.language)]
    return [] if folder is None else str(folder)


def dataset_settings(wildcards):
    """What the job reads of the settings, as JSON: the data set in the folder that it lies in."""
    dataset = dataset_of(wildcards).model_copy(update={"folder": dataset_folder(wildcards), "steered": None})
    made = {"organism": settings.organism} if dataset.source == "organism" else {}
    return dump({"dataset": dataset, "prompts": section("prompts", wildcards), **made})


def folder_of(name):
    """The Hugging Face folder of a model that is measured: aligned here, or as its source has it."""
    if settings.models[name].alignment is not None:
        return f"results/{settings.run}/{name}/weights"
    return source_folder_of(name)


def source_folder_of(name):
    """The Hugging Face folder that a model comes from: given, downloaded, converted, or trained here."""
    model = settings.models[name]
    if model.folder is not None:
        return str(model.folder)
    if model.hub is not None:
        return f"resources/models/{name}"
    if model.gguf is not None:
        return f"resources/gguf/{model.gguf_name}"
    return f"results/{settings.run}/{name}/weights"


def model_folder(wildcards):
    """Input function: the folder of the job's model."""
    return folder_of(wildcards.model)


def aligned(wildcards):
    """The alignment of the job's model."""
    return settings.models[wildcards.model].alignment


def own_phrases(wildcards):
    """Input function: the user's own phrases of the job's language, nothing when there are none."""
    return own_file(settings.judging.phrases, wildcards.language) or []


def of_choosing(pattern):
    """Input function: `pattern` for every language that takes part in choosing."""

    def value(wildcards):
        return expand(pattern, **{**wildcards, "language": CHOOSING})

    return value


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


def first_page():
    """The text that the report opens with: the answers once they are known, their empty frame before."""
    answers = Path(f"results/{settings.run}/report/opening.rst")
    return str(answers.absolute()) if answers.exists() else "../../reports/workflow.rst"
