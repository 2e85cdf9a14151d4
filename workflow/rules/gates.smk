"""Can a handful of examples repair the decision? Layer and strength chosen, gates fitted, thresholds reset.

Needs: activations and directions. Choices are made on validation prompts of the tiers named in steering.chosen_on.
"""


rule choose:
    input:
        prompts=expand("<results>/prompts/{language}.parquet", language=CHOOSING),
        phrases=OWN_PHRASES_OF_CHOOSING,
        activations=of_choosing("<results>/{model}/activations/{language}.safetensors"),
        directions=of_choosing("<results>/{model}/directions/{language}.safetensors"),
        model=model_folder,
    output:
        "<results>/{model}/choices.parquet",
    log:
        "<logs>/{model}/choose.log",
    benchmark:
        "<benchmarks>/{model}/choose.tsv"
    priority: 50
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=1,
        mem=forward_mem,
        runtime=lambda wildcards, attempt: 4 * forward_minutes(wildcards, attempt),
    params:
        settings=given("model", "gate", "steering", "generation", "judging", "seed"),
        languages=CHOOSING,
        sources=settings.languages.high,
        of=of_model,
        code=code("choose"),
    message:
        "Choosing layer, strength and ablation scope of {wildcards.model} on validation prompts"
    shell:
        "polygate choose --settings {params.settings:q} --model-folder {input.model:q} --languages {params.languages:q}"
        " --sources {params.sources:q} --prompts {input.prompts:q} --activations {input.activations:q}"
        " --directions {input.directions:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule gates:
    input:
        activations=of_sources("<results>/{{model}}/activations/{language}.safetensors"),
        prompts=of_sources("<results>/prompts/{language}.parquet"),
        own_activations="<results>/{model}/activations/{language}.safetensors",
        own_prompts="<results>/prompts/{language}.parquet",
        directions="<results>/{model}/directions/{language}.safetensors",
        choices="<results>/{model}/choices.parquet",
    output:
        gates=directory("<results>/{model}/gates/{language}"),
        scores="<results>/{model}/gate_scores/{language}.parquet",
        steering="<results>/{model}/steering/{language}.safetensors",
    log:
        "<logs>/{model}/gates/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "seed"),
        sources=sources,
        of=of_model,
        code=code("gates"),
    message:
        "Gates of {wildcards.model} for {wildcards.language}, every budget and draw"
    shell:
        "polygate gates --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q}"
        " --own-activations {input.own_activations:q} --own-prompts {input.own_prompts:q}"
        " --directions {input.directions:q} --choices {input.choices:q}"
        " --gates {output.gates:q} --scores {output.scores:q} --steering {output.steering:q}"
        " --of {params.of:q} 2> {log:q}"
