"""Does the model know? Difference-in-means directions per language, the high-resource direction and its subspace.

Needs: activations. The sources of a target language are the high-resource languages without that language.
"""


rule means:
    input:
        activations="<results>/{model}/activations/{language}.safetensors",
        prompts="<results>/prompts/{language}.parquet",
    output:
        "<results>/{model}/means/{language}.safetensors",
    log:
        "<logs>/{model}/means/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        of=of_model,
        code=code("means"),
    message:
        "Class means of {wildcards.model} in {wildcards.language}"
    shell:
        "polygate means --activations {input.activations:q} --prompts {input.prompts:q}"
        " --language {wildcards.language:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule directions:
    input:
        means=of_sources("<results>/{{model}}/means/{language}.safetensors"),
        own_means="<results>/{model}/means/{language}.safetensors",
        activations="<results>/{model}/activations/{language}.safetensors",
        prompts="<results>/prompts/{language}.parquet",
    output:
        directions="<results>/{model}/directions/{language}.safetensors",
        projections="<results>/{model}/projections/{language}.parquet",
    log:
        "<logs>/{model}/directions/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "pivot"),
        sources=sources,
        of=of_model,
        code=code("directions"),
    message:
        "Directions of {wildcards.model} for {wildcards.language}"
    shell:
        "polygate directions --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q}"
        " --means {input.means:q} --own-means {input.own_means:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --directions {output.directions:q} --projections {output.projections:q}"
        " --of {params.of:q} 2> {log:q}"
