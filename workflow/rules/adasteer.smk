"""AdaSteer: two vectors with coefficients read off each prompt; adapted to low-resource languages, and as released.

Needs: prompts, activations and choices; for released vectors the network, or a copy that the model's settings name.
"""

SEEN = [name for name in CHOOSING if name not in settings.languages.high] or settings.languages.high
"""Languages on whose val prompts AdaSteer's constants are fitted: mid-resource ones that choices see, where any do."""


rule download_adasteer:
    output:
        directory("resources/adasteer/{released}"),
    log:
        "<logs>/download/adasteer/{released}.log",
    wildcard_constraints:
        released=any_of(model.adasteer.released for model in settings.models.values() if model.adasteer),
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        code=code("download_adasteer"),
    message:
        "Downloading AdaSteer's vectors of {wildcards.released}"
    shell:
        "polygate download-adasteer --model {wildcards.released:q} --output {output:q} 2> {log:q}"


rule read_adasteer:
    input:
        adasteer_folder,
    output:
        "<results>/{model}/baselines/adasteer-released.safetensors",
    log:
        "<logs>/{model}/baselines/adasteer-released.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=adasteer_settings("baselines"),
        of=of_model,
        code=code("read_adasteer"),
    message:
        "AdaSteer's released vectors for {wildcards.model}"
    shell:
        "polygate read-adasteer --settings {params.settings:q} --folder {input:q} --of {params.of:q}"
        " --output {output:q} 2> {log:q}"


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
