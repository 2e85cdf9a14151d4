"""Which probe of other languages needs the fewest examples? Probes compared by source and budget.

Needs: activations and the chosen layer, of all languages of a model; U-Scores, for OMNIGuard.
"""


rule compare_probes:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
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
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        settings=given("gate.ranks", "gate.solver", "gate.objective", "probes", "pivot", "seed"),
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


rule omniguard:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
        choices="<results>/{model}/choices.parquet",
        uscores="<results>/{model}/uscore.parquet",
    output:
        draws="<results>/{model}/probes/omniguard_draws.parquet",
        means="<results>/{model}/probes/omniguard.parquet",
    log:
        "<logs>/{model}/omniguard.log",
    benchmark:
        "<benchmarks>/{model}/omniguard.tsv"
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=1,  # The demo needs none; at the paper's size a model's networks are 60 hours of one CPU core.
        mem=lambda wildcards, attempt: f"{8 * attempt}GB",
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=given("gate.objective", "probes", "omniguard", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        of=of_model,
        code=code("omniguard"),
    message:
        "OMNIGuard in {wildcards.model}"
    shell:
        "polygate omniguard --settings {params.settings:q} --tiers {params.tiers}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --choices {input.choices:q}"
        " --uscores {input.uscores:q}"
        " --draws {output.draws:q} --means {output.means:q} --languages {params.languages:q}"
        " --of {params.of:q} 2> {log:q}"


rule table_probes:
    input:
        means=expand("<results>/{model}/probes/{kind}.parquet", kind=["comparison", "omniguard"], model=MODELS),
    output:
        as_table("probes", "Probes compared"),
    log:
        "<logs>/tables/probes.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        models=[*whole_models(), *whole_models()],
        code=table_code("probes"),
    message:
        "Probes compared"
    script:
        "../scripts/table_probes.py"


rule figure_probes:
    input:
        probes="<results>/tables/probes.csv",
        gates="<results>/tables/gates.csv",
    output:
        figure=as_figure("probes", "4 Can a handful of examples repair it?", "Probes compared"),
        data="<results>/figures/probes.csv",
    log:
        "<logs>/figures/probes.log",
    conda:
        "../../envs/base.yaml"
    params:
        rank=settings.gate.rank,
        confidence=settings.statistics.confidence,
        code=figure_code("probes"),
    message:
        "Figure: probes compared"
    script:
        "../scripts/figure_probes.py"
