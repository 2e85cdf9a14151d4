"""What do examples recover, and which probe of other languages needs them least? Few-shot recoverability, probes compared.

Needs: activations and the chosen layer, of all languages of a model.
"""


rule recoverability:
    input:
        activations=expand("<results>/{{model}}/activations/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/{language}.parquet", language=LANGUAGES),
        choices="<results>/{model}/choices.parquet",
    output:
        draws="<results>/{model}/probes/recoverability_draws.parquet",
        means="<results>/{model}/probes/recoverability.parquet",
    log:
        "<logs>/{model}/recoverability.log",
    benchmark:
        "<benchmarks>/{model}/recoverability.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 2
    resources:
        mem="4GB",
        runtime=30,
    params:
        settings=given("gate", "probes", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        of=of_model,
        code=code("recoverability"),
    message:
        "Few-shot recoverability in {wildcards.model}"
    shell:
        "polygate recoverability --settings {params.settings:q} --tiers {params.tiers}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --choices {input.choices:q}"
        " --draws {output.draws:q} --means {output.means:q} --languages {params.languages:q}"
        " --of {params.of:q} 2> {log:q}"


rule compare_probes:
    input:
        activations=expand("<results>/{{model}}/activations/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/{language}.parquet", language=LANGUAGES),
        choices="<results>/{model}/choices.parquet",
    output:
        draws="<results>/{model}/probes/comparison_draws.parquet",
        means="<results>/{model}/probes/comparison.parquet",
    log:
        "<logs>/{model}/compare_probes.log",
    benchmark:
        "<benchmarks>/{model}/compare_probes.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 2
    resources:
        mem="4GB",
        runtime=30,
    params:
        settings=given("gate", "probes", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        of=of_model,
        code=code("compare_probes"),
    message:
        "Probes compared in {wildcards.model}"
    shell:
        "polygate compare-probes --settings {params.settings:q} --tiers {params.tiers}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --choices {input.choices:q}"
        " --draws {output.draws:q} --means {output.means:q} --languages {params.languages:q}"
        " --of {params.of:q} 2> {log:q}"
