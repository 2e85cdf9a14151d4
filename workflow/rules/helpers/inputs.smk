"""Where the inputs of rules lie, as the settings name them: prompts, data sets, models, guards and phrases; and what
paid judges are still to be asked."""

SWEEPS_BY = next((name for name in JUDGES if name not in GUARDS), None)
"""The judge of sweeps: the first that is no model of its own."""
SWEPT = ["sweep"] if settings.sweeps.any and SWEEPS_BY else []  # All points of the sweeps, in one file.


def extra_file(language):
    """The user's own file for a language, None when there is none."""
    found = None if settings.prompts.extra is None else find(settings.prompts.extra, language)
    return None if found is None else str(found)


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


def encoded(given):
    """`given` where there is a sentence encoder, nothing without one."""
    return given if settings.controls.encoder else []


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


def settings_of_cast_choice(wildcards):
    """What choosing CAST's strength reads of the settings: it judges in low-resource languages."""
    shown = {name: section(name, wildcards) for name in ("model", "generation")}
    judging = only_own(settings.judging.only(JUDGE), settings.languages.low)
    return dump({**shown, "steering.prompts": settings.steering.prompts, "judging": judging})


def cast_folder():
    """The folder of CAST's own data, given or downloaded."""
    return str(settings.baselines.cast.released.folder or "resources/cast")


def cast_files(wildcards):
    """Input function: the files of a given folder, or the folder that they are downloaded to."""
    given = settings.baselines.cast.released.folder
    return cast_folder() if given is None else [str(path) for path in cast_data.files(given)]


def own_phrases(wildcards):
    """Input function: the user's own phrases of the job's language, nothing when there are none."""
    return own_file(settings.judging.phrases, wildcards.language) or []


def of_choosing(pattern):
    """Input function: `pattern` for every language that takes part in choosing."""

    def value(wildcards):
        return files_of(pattern, [{**wildcards, "language": language} for language in CHOOSING])

    return value


def first_page():
    """The text that the report opens with: the answers once they are known, their empty frame before."""
    answers = Path(f"results/{settings.run}/report/opening.rst")
    return str(answers.absolute()) if answers.exists() else "../../reports/workflow.rst"
