"""Where the inputs of data sets lie, and what judging their answers may cost."""


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
    dataset = dataset_of(wildcards).model_copy(
        update={"folder": dataset_folder(wildcards), "steered": None, "languages": None}
    )
    made = {"organism": settings.organism} if dataset.source == "organism" else {}
    return dump({"dataset": dataset, "prompts": section("prompts", wildcards), **made})


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
