"""How many examples until one may promise what? Thresholds with a guarantee, and without labels.

Needs: activations and the chosen layer, of all languages of a model; their embeddings where there is an encoder.
"""


rule conformal:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
        choices="<results>/{model}/choices.parquet",
    output:
        "<results>/{model}/calibration.parquet",
    log:
        "<logs>/{model}/conformal.log",
    benchmark:
        "<benchmarks>/{model}/conformal.tsv"
    conda:
        "../../envs/base.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=given("gate", "calibration", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        of=of_model,
        code=code("conformal"),
    message:
        "Rules of calibration in {wildcards.model}"
    shell:
        "polygate conformal --settings {params.settings:q} --tiers {params.tiers} --languages {params.languages:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --choices {input.choices:q}"
        " --of {params.of:q} --output {output:q} 2> {log:q}"


rule conformal_semantic:
    input:
        embeddings=expand("<results>/embeddings/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
    output:
        "<results>/semantic_calibration.parquet",
    log:
        "<logs>/conformal_semantic.log",
    benchmark:
        "<benchmarks>/conformal_semantic.tsv"
    conda:
        "../../envs/base.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=given("gate", "calibration", "controls", "pivot", "seed"),
        tiers=LANGUAGE_TIERS,
        languages=LANGUAGES,
        code=code("conformal_semantic"),
    message:
        "Rules of calibration on what a small sentence encoder knows"
    shell:
        "polygate conformal-semantic --settings {params.settings:q} --tiers {params.tiers} --languages {params.languages:q}"
        " --prompts {input.prompts:q} --embeddings {input.embeddings:q} --output {output:q} 2> {log:q}"


rule table_calibration:
    input:
        decisions=expand("<results>/{model}/calibration.parquet", model=MODELS),
        semantics=encoded(["<results>/semantic_calibration.parquet"]),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
    output:
        as_table("calibration", "Calibration with a guarantee"),
    log:
        "<logs>/tables/calibration.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("calibration", "gate.threshold_on", "statistics", "seed"),
        models=whole_models(),
        languages=language_cells(),
        encoded=encoded([{"model": "", "tier": "", "language": ""}]),
        code=table_code("calibration"),
    message:
        "Rules of calibration: what they promise, and what they do"
    script:
        "../scripts/table_calibration.py"


rule figure_calibration:
    input:
        calibration="<results>/tables/calibration.csv",
    output:
        figure=as_figure("calibration", "4 Can a handful of examples repair it?", "What may be promised"),
        data="<results>/figures/calibration.csv",
    log:
        "<logs>/figures/calibration.log",
    conda:
        "../../envs/base.yaml"
    params:
        alphas=settings.calibration.alphas,
        confidence=settings.statistics.confidence,
        code=figure_code("calibration"),
    message:
        "Figure: misses and false flags by number of examples"
    script:
        "../scripts/figure_calibration.py"
