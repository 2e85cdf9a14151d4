"""CAST as released (zero-shot): fitted and tuned on its own English data, applied in low-resource languages.

Needs: models; prompts and activations of the languages that are steered; CAST's data, from the network or a copy that
the settings name.
"""

CAST_PARTS = list(cast_data.POSITIONS)

if "cast-released" in BASELINES and settings.languages.low:
    PLANNED += [as_text(cast_job, model, part) for model in MODELS for part in CAST_PARTS]


rule download_cast:
    output:
        directory("resources/cast"),
    log:
        "<logs>/download/cast.log",
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        code=code("download_cast"),
    message:
        "Downloading CAST's own data"
    shell:
        "polygate download-cast --output {output:q} 2> {log:q}"


rule prompts_cast:
    input:
        cast_files,
    output:
        conditions="<results>/prompts/cast-released/conditions.parquet",
        behaviours="<results>/prompts/cast-released/behaviours.parquet",
    log:
        "<logs>/prompts/cast-released.log",
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        folder=cast_folder(),
        pairs=settings.baselines.cast.released.pairs or [],
        questions=settings.baselines.cast.released.questions,
        openings=settings.baselines.cast.released.openings,
        code=code("prompts_cast"),
    message:
        "Prompts and openings of CAST's own data"
    shell:
        "polygate prompts-cast --folder {params.folder:q} --pairs {params.pairs} --questions {params.questions}"
        " --openings {params.openings} --conditions {output.conditions:q} --behaviours {output.behaviours:q} 2> {log:q}"


rule capture_cast:
    input:
        prompts="<results>/prompts/cast-released/{part}.parquet",
        model=model_folder,
    output:
        "<results>/{model}/activations/cast-released/{part}.safetensors",
    log:
        "<logs>/{model}/activations/cast-released/{part}.log",
    wildcard_constraints:
        part=any_of(CAST_PARTS),
    priority: 50
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=cast_mem,
        runtime=cast_minutes,
    params:
        job=lambda wildcards: as_text(cast_job, wildcards.model, wildcards.part),
        plan=str(PLAN),
        code=code("forward"),
    message:
        "Activations of {wildcards.model} on CAST's own {wildcards.part}"
    shell:
        "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"


rule fit_cast_released:
    input:
        prompts=expand("<results>/prompts/cast-released/{part}.parquet", part=CAST_PARTS),
        activations=expand("<results>/{{model}}/activations/cast-released/{part}.safetensors", part=CAST_PARTS),
    output:
        "<results>/{model}/baselines/cast-released.safetensors",
    log:
        "<logs>/{model}/baselines/cast-released.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
    params:
        settings=given("baselines"),
        of=of_model,
        code=code("fit_cast_released"),
    message:
        "CAST from its own data for {wildcards.model}"
    shell:
        "polygate fit-cast-released --settings {params.settings:q} --prompts {input.prompts:q}"
        " --activations {input.activations:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule intervene_cast_released:
    input:
        cast="<results>/{model}/baselines/cast-released.safetensors",
        activations="<results>/{model}/activations/{dataset}/{language}.safetensors",
        prompts="<results>/prompts/{dataset}/{language}.parquet",
    output:
        "<results>/{model}/interventions/cast-released/{dataset}/{language}.safetensors",
    log:
        "<logs>/{model}/intervene/cast-released/{dataset}/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        strength=settings.baselines.cast.strength_as_released,
        of=of_model,
        code=code("intervene_cast_released"),
    message:
        "CAST as released for {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate intervene-cast-released --cast {input.cast:q} --strength {params.strength} --arm cast-released"
        " --dataset {wildcards.dataset:q} --language {wildcards.language:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --of {params.of:q} --output {output:q} 2> {log:q}"
