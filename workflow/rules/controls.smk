"""What would the surface of the prompts give away without any model? The baseline beside every separability number.

Needs: prompts.
"""


rule surface:
    input:
        prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
        own_prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/surface/{language}.parquet",
    log:
        "<logs>/surface/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "seed"),
        sources=sources,
        code=code("surface"),
    message:
        "Surface baselines in {wildcards.language}"
    shell:
        "polygate surface --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q} --prompts {input.prompts:q}"
        " --own-prompts {input.own_prompts:q} --output {output:q} 2> {log:q}"
