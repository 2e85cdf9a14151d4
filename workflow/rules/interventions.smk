"""What is done to every prompt, by arm: decided on the CPU from stored activations, before anything is generated.

Needs: prompts, activations, directions and choices. Unsteered text has no intervention.
"""


rule intervene:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        source_activations=of_sources("<results>/{model}/activations/<main>/{language}.safetensors"),
        source_prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
        directions="<results>/{model}/directions/{language}.safetensors",
        choices="<results>/{model}/choices.parquet",
    output:
        addition="<results>/{model}/interventions/addition/{dataset}/{language}.safetensors",
        ablation="<results>/{model}/interventions/ablation/{dataset}/{language}.safetensors",
    log:
        "<logs>/{model}/intervene/{dataset}/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        sources=sources,
        of=of_model,
        code=code("intervene"),
    message:
        "Addition and ablation of {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate intervene --target {wildcards.language:q} --dataset {wildcards.dataset:q} --prompts {input.prompts:q}"
        " --sources {params.sources:q} --source-activations {input.source_activations:q}"
        " --source-prompts {input.source_prompts:q} --directions {input.directions:q} --choices {input.choices:q}"
        " --addition {output.addition:q} --ablation {output.ablation:q} --of {params.of:q} 2> {log:q}"
