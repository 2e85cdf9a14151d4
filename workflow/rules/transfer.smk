"""Does one more whole language help the others? Gates of the high-resource languages and one mid- or low-resource one.

Needs: activations and the chosen layer, of all languages of a model; surface baselines and, where there is an encoder, the semantic one.
"""


rule transfer:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
        choices="<results>/{model}/choices.parquet",
    output:
        "<results>/{model}/probes/transfer.parquet",
    log:
        "<logs>/{model}/transfer.log",
    benchmark:
        "<benchmarks>/{model}/transfer.tsv"
    conda:
        "../../envs/base.yaml"
    threads: 2
    resources:
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=given(*FITTED, "probes", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        of=of_model,
        code=code("transfer"),
    message:
        "Cross-lingual transfer in {wildcards.model}"
    shell:
        "polygate transfer --settings {params.settings:q} --tiers {params.tiers} --languages {params.languages:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --choices {input.choices:q}"
        " --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_transfer:
    input:
        transfers=expand("<results>/{model}/probes/transfer.parquet", model=MODELS),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        semantics=semantic_files(),
    output:
        as_table("transfer", "Cross-lingual transfer"),
    log:
        "<logs>/tables/transfer.log",
    benchmark:
        "<benchmarks>/tables/transfer.tsv"
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        models=whole_models(),
        languages=language_cells(),
        encoded=semantic_cells(),
        code=table_code("transfer"),
    message:
        "Cross-lingual transfer"
    script:
        "../scripts/table_transfer.py"


rule figure_transfer:
    input:
        transfer="<results>/tables/transfer.csv",
    output:
        figure=as_figure("transfer", "4 Can a handful of examples repair it?", "Cross-lingual transfer"),
        data="<results>/figures/transfer.csv",
    log:
        "<logs>/figures/transfer.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("transfer"),
    message:
        "Figure: cross-lingual transfer"
    script:
        "../scripts/figure_transfer.py"
