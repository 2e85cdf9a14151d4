"""Forward passes as their jobs describe them, and the plan of them all.

The plan is written when the workflow is read. It is nobody's input, so it triggers nothing: the job that has loaded
a model looks there for what else it can compute. Priorities see to it that this is much: prompts come before forward
passes, and everything that interventions need before steered completions.
"""

from dataclasses import asdict

from polygate.forward.options import Options

PLAN = Path(f".snakemake/polygate/{settings.run}.plan.json")


def forward_job(task, model, dataset, language, **more):
    """One forward pass as its job and the plan describe it: what to compute, from which files, to which file."""
    results = f"results/{settings.run}"
    return {
        "task": task,
        "dataset": dataset,
        "language": language,
        "model": model_of_jobs(model),
        "model_folder": folder_of(model),
        "prompts": f"{results}/prompts/{dataset}/{language}.parquet",
        "cache": "results/cells",
        **more,
    }


def of_model(wildcards):
    """The job's model, as JSON, for the stages that check whether files are of it."""
    return model_as_json(wildcards.model)


@cache
def model_as_json(name):
    options = Options.of(settings.models[name].model_dump(mode="json"))
    described = {"model": asdict(options), "folder": folder_of(name), "cache": "results/cells"}
    return json.dumps(described, sort_keys=True, default=str)


@cache
def model_of_jobs(name):
    """A model's settings as its forward passes read them."""
    return settings.models[name].model_dump(mode="json", exclude={"adasteer"})


@cache
def as_text(job, *of):
    """A forward pass as JSON, the same text in the plan as in its job's parameters: as_text(capture_job, …)."""
    return json.dumps(job(*of), sort_keys=True)


def capture_job(model, dataset, language):
    output = f"results/{settings.run}/{model}/activations/{dataset}/{language}.safetensors"
    return forward_job("capture", model, dataset, language, positions=["t_inst", "t_post_inst", "mean"], output=output)


def cast_job(model, part):
    """CAST's own English data: prompts as any others, openings of answers by the mean over their own tokens."""
    results = f"results/{settings.run}"
    return forward_job(
        "capture",
        model,
        cast_data.DATASET,
        cast_data.LANGUAGE,
        prompts=f"{results}/prompts/{cast_data.DATASET}/{part}.parquet",
        positions=[cast_data.POSITIONS[part]],
        output=f"{results}/{model}/activations/{cast_data.DATASET}/{part}.safetensors",
    )


def generate_job(model, dataset, language, arm):
    results = f"results/{settings.run}/{model}"
    return forward_job(
        "generate",
        model,
        dataset,
        language,
        arm=arm,
        intervention=None if arm == "none" else f"{results}/interventions/{arm}/{dataset}/{language}.safetensors",
        max_new_tokens=settings.generation.max_new_tokens,
        output=f"{results}/completions/{arm}/{dataset}/{language}.parquet",
    )


def guard_job(judge, model, arm, dataset, language):
    """A guard's answers about the completions of one arm: it is asked as the measured models are, unsteered."""
    guard, results = settings.judging.guards[judge], f"results/{settings.run}"
    within, cell = f"{results}/{model}/guarded/{judge}", f"{arm}/{dataset}/{language}.parquet"
    around = {"chat_template": f"{results}/guards/{judge}/around.jinja"}
    return {
        "task": "generate",
        "dataset": dataset,
        "language": language,
        "model": guard.model_dump(mode="json", exclude={"system", "template", "verdict", "languages"}) | around,
        "model_folder": guard_folder_of(judge),
        "prompts": f"{within}/asked/{cell}",
        "cache": "results/cells",
        "arm": "none",
        "intervention": None,
        "max_new_tokens": guard.max_new_tokens,
        "output": f"{within}/answers/{cell}",
    }


def guarded(judge):
    """Model, arm, data set and language of the completions that a guard judges."""
    cells = [
        (model, arm, dataset, language)
        for model in MODELS
        for arm in ARMS
        for dataset, language in prompt_tables()
        if arm in arms_of(dataset)
    ]
    cells += [(cell["model"], arm, MAIN, cell["language"]) for arm, cell in baseline_cells()]
    return [cell for cell in cells if cell[-1] in JUDGED[judge]]


def score_job(model, dataset, language, arm):
    results = f"results/{settings.run}/{model}"
    return forward_job(
        "score",
        model,
        dataset,
        language,
        arm=arm,
        intervention=None if arm == "none" else f"{results}/interventions/{arm}/{dataset}/{language}.safetensors",
        output=f"{results}/scores/{arm}/{dataset}/{language}.parquet",
    )


PLANNED = []
"""Every forward pass of the run as JSON, which the files of their rules add to."""


def write_plan():
    """Write what `PLANNED` holds, a line each, where that isn't there yet; the processes of jobs find it written."""
    if not workflow.is_main_process and PLAN.exists():
        return
    text = "[\n" + ",\n".join(PLANNED) + "\n]\n"
    if not PLAN.exists() or PLAN.read_text() != text:
        write_text(PLAN, text)
