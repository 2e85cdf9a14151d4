"""Where the inputs of rules lie, as the settings name them: prompts, data sets, models, guards and phrases; and what
paid judges are still to be asked."""


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
    dataset = dataset_of(wildcards).model_copy(update={"folder": dataset_folder(wildcards)})
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


def guard_folder_of(judge):
    """The Hugging Face folder of a guard: given, or downloaded."""
    folder = settings.judging.guards[judge].folder
    return f"resources/guards/{judge}" if folder is None else str(folder)


def guard_folder(wildcards):
    """Input function: the folder of the job's guard."""
    return guard_folder_of(wildcards.judge)


def guard_settings(wildcards):
    """The job's guard as what a download reads of a model, as JSON."""
    guard = settings.judging.guards[wildcards.judge]
    return dump({"model": {"hub": guard.hub, "revision": guard.revision}})


def encoder_folder():
    """The folder of a hub encoder, given or downloaded; nothing for one that a package carries."""
    controls = settings.controls
    return str(controls.folder or "resources/encoder") if controls.on_hub else []


def aligned(wildcards):
    """The alignment of the job's model."""
    return settings.models[wildcards.model].alignment


def baselines_of(model):
    """The published ways of steering that a model gets: released vectors where it has some."""
    return [arm for arm in BASELINES if arm != "adasteer-released" or settings.models[model].has_released]


def adasteer_settings(*sections):
    """Like `given`, with AdaSteer's constants of the job's model where it has some."""

    def value(wildcards):
        constants = settings.models[wildcards.model].adasteer
        shown = {} if constants is None else {"adasteer": constants.model_copy(update={"folder": None})}
        return dump({**{name: section(name, wildcards) for name in sections}, **shown})

    return value


def adasteer_folder(wildcards):
    """Input function: the released vectors of the job's model, given or downloaded."""
    adasteer = settings.models[wildcards.model].adasteer
    return str(adasteer.folder) if adasteer.folder is not None else f"resources/adasteer/{adasteer.released}"


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


def note_costs():
    """Say what paid judges may still cost, whenever the workflow is read: a dry run shows it, too."""
    for judge in settings.judging.paid if workflow.is_main_process else []:
        api = settings.judging.apis[judge]
        cells = [
            cost.Cell(
                Path(f"results/{settings.run}/prompts/{dataset}/{language}.parquet"),
                Path(f"results/{settings.run}/{model}/completions/{arm}/{dataset}/{language}.parquet"),
                rows_at_most(dataset),
            )
            for model in MODELS
            for arm in ARMS
            for dataset, language in prompt_tables()
            if arm in arms_of(dataset) and language in JUDGED[judge]
        ]
        estimate = cost.of_run(api, cells, settings.generation.max_new_tokens)
        print(f"polygate: note: {cost.told(judge, api, estimate)}", file=sys.stderr)


def rows_at_most(dataset):
    """Test prompts of a table that isn't there yet, as far as the settings tell."""
    if dataset == MAIN:
        limit = settings.prompts.limit.test
        return cost.ROWS if limit is None else 2 * limit
    limit = settings.datasets[dataset].limit
    return cost.ROWS if limit is None else 2 * limit
