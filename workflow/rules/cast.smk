"""CAST: a condition read below decides whether a behaviour is added above; adapted to low-resource languages.

Needs: prompts and activations; the model, where the strength is chosen on val prompts rather than fixed.
"""


rule fit_cast:
    input:
        activations=expand(
            "<results>/{{model}}/activations/<main>/{language}.safetensors", language=settings.languages.low
        ),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=settings.languages.low),
    output:
        "<results>/{model}/baselines/cast.safetensors",
    log:
        "<logs>/{model}/baselines/cast.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("baselines", "seed"),
        languages=settings.languages.low,
        of=of_model,
        code=code("fit_cast"),
    message:
        "Adapting CAST to {wildcards.model} in low-resource languages"
    shell:
        "polygate fit-cast --settings {params.settings:q} --languages {params.languages:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --of {params.of:q} --output {output:q}"
        " 2> {log:q}"


rule choose_cast:
    input:
        cast="<results>/{model}/baselines/cast.safetensors",
        activations=expand(
            "<results>/{{model}}/activations/<main>/{language}.safetensors", language=settings.languages.low
        ),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=settings.languages.low),
        phrases=[path for language in settings.languages.low if (path := own_file(settings.judging.phrases, language))],
        model=model_folder,
    output:
        "<results>/{model}/baselines/cast-strength.parquet",
    log:
        "<logs>/{model}/choose_cast.log",
    benchmark:
        "<benchmarks>/{model}/choose_cast.tsv"
    priority: 50
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=forward_mem,
        runtime=choose_minutes,
    params:
        settings=settings_of_cast_choice,
        strengths=settings.baselines.cast.strengths,
        languages=settings.languages.low,
        of=of_model,
        code=code("choose_cast"),
    message:
        "Choosing CAST's strength for {wildcards.model} on validation prompts"
    shell:
        "polygate choose-cast --settings {params.settings:q} --strengths {params.strengths} --cast {input.cast:q}"
        " --model-folder {input.model:q} --languages {params.languages:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule intervene_cast:
    input:
        cast="<results>/{model}/baselines/cast.safetensors",
        chosen=lambda wildcards: cast_strengths([wildcards.model]),
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        expand(
            "<results>/{{model}}/interventions/{arm}/<main>/{{language}}.safetensors",
            arm=settings.baselines.cast_arms(),
        ),
    log:
        "<logs>/{model}/intervene/cast/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("baselines", "seed"),
        arms=settings.baselines.cast_arms(),
        strength=settings.baselines.cast.strength or [],
        of=of_model,
        code=code("intervene_cast"),
    message:
        "CAST for {wildcards.model} in {wildcards.language}"
    shell:
        "polygate intervene-cast --settings {params.settings:q} --cast {input.cast:q} --strength {params.strength}"
        " --chosen {input.chosen:q} --language {wildcards.language:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --arms {params.arms:q} --outputs {output:q} --of {params.of:q} 2> {log:q}"
