"""What do a language's own examples recover? Few-shot probes by budget, beside controls.

Needs: activations and the chosen layer, of all languages of a model.
"""


rule recoverability:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
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
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=given("gate.solver", "probes", "pivot", "seed"),
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


rule table_recoverability:
    input:
        means=expand("<results>/{model}/probes/recoverability.parquet", model=MODELS),
    output:
        as_table("recoverability", "Few-shot recoverability"),
    log:
        "<logs>/tables/recoverability.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        models=whole_models(),
        code=table_code("probes"),
    message:
        "Few-shot recoverability"
    script:
        "../scripts/table_probes.py"


rule figure_recoverability:
    input:
        recoverability="<results>/tables/recoverability.csv",
        separability="<results>/tables/separability.csv",
    output:
        figure=as_figure("recoverability", "2 Does it know?", "Few-shot recoverability"),
        data="<results>/figures/recoverability.csv",
    log:
        "<logs>/figures/recoverability.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("recoverability"),
    message:
        "Figure: few-shot recoverability"
    script:
        "../scripts/figure_recoverability.py"
