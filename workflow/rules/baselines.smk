"""Do published ways of conditional steering repair it as well? AdaSteer and CAST, in low-resource languages.

Needs: prompts, activations and choices. Both decide from the unsteered prompt, so what they do is an intervention like
any other; their completions and judgements join those of the other arms in refusal.csv and selectivity.csv.
"""

PLANNED += [generate_job(cell["model"], MAIN, cell["language"], arm) for arm, cell in baseline_cells()]

SEEN = [name for name in CHOOSING if name not in settings.languages.high] or settings.languages.high
"""Languages on whose val prompts AdaSteer's constants are fitted: mid-resource ones that choices see, where any do."""


rule fit_adasteer:
    input:
        activations=expand(
            "<results>/{{model}}/activations/<main>/{language}.safetensors", language=settings.languages.low
        ),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=settings.languages.low),
        seen_activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=SEEN),
        seen_prompts=expand("<results>/prompts/<main>/{language}.parquet", language=SEEN),
        choices="<results>/{model}/choices.parquet",
    output:
        "<results>/{model}/baselines/adasteer.safetensors",
    log:
        "<logs>/{model}/baselines/adasteer.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=adasteer_settings("baselines", "seed"),
        languages=settings.languages.low,
        seen=SEEN,
        of=of_model,
        code=code("fit_adasteer"),
    message:
        "Adapting AdaSteer to {wildcards.model} in low-resource languages"
    shell:
        "polygate fit-adasteer --settings {params.settings:q} --languages {params.languages:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --seen {params.seen:q}"
        " --seen-activations {input.seen_activations:q} --seen-prompts {input.seen_prompts:q}"
        " --choices {input.choices:q} --of {params.of:q} --output {output:q} 2> {log:q}"


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


rule intervene_adasteer:
    input:
        adasteer="<results>/{model}/baselines/{arm}.safetensors",
        activations="<results>/{model}/activations/{dataset}/{language}.safetensors",
        prompts="<results>/prompts/{dataset}/{language}.parquet",
    output:
        "<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
    log:
        "<logs>/{model}/intervene/{arm}/{dataset}/{language}.log",
    wildcard_constraints:
        arm="adasteer|adasteer-released",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        of=of_model,
        code=code("intervene_adasteer"),
    message:
        "{wildcards.arm} for {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate intervene-adasteer --adasteer {input.adasteer:q} --arm {wildcards.arm:q}"
        " --dataset {wildcards.dataset:q} --language {wildcards.language:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --of {params.of:q} --output {output:q} 2> {log:q}"


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
