"""CAST: a condition read below decides whether a behaviour is added above; adapted to low-resource languages.

Needs: prompts and activations.
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


rule intervene_cast:
    input:
        cast="<results>/{model}/baselines/cast.safetensors",
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
        of=of_model,
        code=code("intervene_cast"),
    message:
        "CAST for {wildcards.model} in {wildcards.language}"
    shell:
        "polygate intervene-cast --settings {params.settings:q} --cast {input.cast:q} --language {wildcards.language:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --arms {params.arms:q} --outputs {output:q}"
        " --of {params.of:q} 2> {log:q}"
