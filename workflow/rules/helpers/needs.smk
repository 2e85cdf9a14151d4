"""What forward passes need on a cluster: memory, minutes and threads, from the size of the model and the prompts.

Slow on purpose: a job that ends early costs nothing, one that is cut off is done again. Twice as much of both is asked
for when it is done again.
"""

PROMPTS_OF_A_SPLIT = {"train": 460, "val": 239, "test": 1072}
"""Prompts of PolyRefuse in one language, both classes; other sources hold fewer."""
TESTED_PROMPTS = 1500
"""Prompts of a tested data set in one language, at most."""
PROMPT_TOKENS = 100
"""Tokens of a prompt, as the low-resource languages have them."""

DEVICE_RATE, CORE_RATE = 4e12, 2e10
"""Parameters times tokens a second: 500 tokens of an 8B model on one GPU; 150 of a 135M model on one CPU core, where
180 were measured (AVX2, float32, batches of 256 to 1,024 tokens)."""


def weights_gb(model):
    """In their dtype, as they come from the disk, also where they are then quantised."""
    return model.parameters * (4 if model.dtype == "float32" else 2) / 1e9


def gpus_of(wildcards):
    return settings.models[wildcards.model].gpus


def memory(model, prompts, attempt):
    """The libraries, weights once on their way to the device, and three positions of every layer in float32.

    Layers times width is about 1.7 times the root of the number of parameters.
    """
    activations = prompts * 3 * 4 * 1.7 * model.parameters**0.5 / 1e9
    return f"{int((2 + 1.5 * weights_gb(model) + activations) * attempt) + 1}GB"


def threads_of(model):
    """Below a hundred million parameters a second thread costs more than it gives."""
    return 1 if model.parameters < 1e8 else 8


def minutes(model, prompts, new, attempt):
    """A load at 200 MB/s, and `prompts` that are read and answered with `new` tokens; without a GPU below 1B."""
    rate = DEVICE_RATE if model.parameters > 1e9 else CORE_RATE * threads_of(model)
    work = prompts * (PROMPT_TOKENS + new) * model.parameters / rate / 60
    return int((2 + weights_gb(model) / 12 + work) * attempt)


def prompts_of(dataset, *splits):
    """Prompts of one language in these splits, or in all of a data set that is only tested."""
    if dataset in settings.datasets:
        limit = settings.datasets[dataset].limit
        return TESTED_PROMPTS if limit is None else min(2 * limit, TESTED_PROMPTS)
    limits = {split: getattr(settings.prompts.limit, split) for split in splits}
    return sum(
        PROMPTS_OF_A_SPLIT[split] if limit is None else min(2 * limit, PROMPTS_OF_A_SPLIT[split])
        for split, limit in limits.items()
    )


def forward_mem(wildcards, attempt):
    dataset = getattr(wildcards, "dataset", settings.prompts.source)
    return memory(settings.models[wildcards.model], prompts_of(dataset, *PROMPTS_OF_A_SPLIT), attempt)


def cast_texts(part):
    """Texts of a part of CAST's own data: of its 4,050 and 450 pairs, or questions with openings of both kinds."""
    asked = settings.baselines.cast.released
    if part == "conditions":
        return 2 * sum(pairs if asked.pairs is None else min(asked.pairs, pairs) for pairs in (4050, 450))
    return 2 * asked.questions * asked.openings


def cast_mem(wildcards, attempt):
    """Each text is read at one position, not at three."""
    return memory(settings.models[wildcards.model], cast_texts(wildcards.part) / 3, attempt)


def cast_minutes(wildcards, attempt):
    return minutes(settings.models[wildcards.model], cast_texts(wildcards.part), 0, attempt)


def forward_threads(wildcards):
    return threads_of(settings.models[wildcards.model])


def capture_minutes(wildcards, attempt):
    dataset = getattr(wildcards, "dataset", settings.prompts.source)
    return minutes(settings.models[wildcards.model], prompts_of(dataset, *PROMPTS_OF_A_SPLIT), 0, attempt)


def answer_minutes(wildcards, attempt):
    """As many prompts as are tested; for the sweeps those of every point, a layer of each of about forty."""
    model, new, sweeps = settings.models[wildcards.model], settings.generation.max_new_tokens, settings.sweeps
    prompts = prompts_of(wildcards.dataset, "test")
    if getattr(wildcards, "arm", "none") == "sweep":
        prompts = min(prompts, sweeps.prompts or prompts) * (2 * 40 * sweeps.layers + len(sweeps.strengths))
    return minutes(model, prompts, new, attempt)


def score_minutes(wildcards, attempt):
    return minutes(settings.models[wildcards.model], prompts_of(wildcards.dataset, "test"), 1, attempt)


def choose_minutes(wildcards, attempt):
    """Every point of the choice is answered in every language that takes part: a few times the prompts of one."""
    model, new = settings.models[wildcards.model], settings.generation.max_new_tokens
    return minutes(model, 4 * prompts_of(settings.prompts.source, "test"), new, attempt)


def guard_mem(wildcards, attempt):
    return memory(settings.judging.guards[wildcards.judge], 0, attempt)


def guard_minutes(wildcards, attempt):
    """A guard reads a prompt and its completion, and answers with its own number of tokens."""
    guard, read = settings.judging.guards[wildcards.judge], settings.generation.max_new_tokens
    return minutes(guard, prompts_of(wildcards.dataset, "test"), PROMPT_TOKENS + read + guard.max_new_tokens, attempt)


def guard_gpus(wildcards):
    return settings.judging.guards[wildcards.judge].gpus


def guard_threads(wildcards):
    return threads_of(settings.judging.guards[wildcards.judge])
