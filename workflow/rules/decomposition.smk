"""Which failure is it? Refusals that are missing, by whether the model knows, per language.

Needs: judgements of unsteered completions, gate scores, surface baselines.
"""


rule table_decomposition:
    input:
        judgements=expand(
            f"<results>/{{model}}/judgements/{JUDGE}/none/<main>/{{language}}.parquet",
            model=MODELS,
            language=LANGUAGES,
        ),
        gate_scores=expand("<results>/{model}/gate_scores/<main>/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        semantics=semantic_files(),
    output:
        as_table("decomposition", "Failure decomposition"),
    log:
        "<logs>/tables/decomposition.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed", "gate.rank"),
        judgements=[{**cell, "arm": "none", "judge": JUDGE} for cell in model_cells()],
        cells=model_cells(),
        languages=language_cells(),
        encoded=semantic_cells(),
        code=table_code("decomposition"),
    message:
        "Failure decomposition"
    script:
        "../scripts/table_decomposition.py"


rule figure_decomposition:
    input:
        decomposition="<results>/tables/decomposition.csv",
    output:
        figure=as_figure("decomposition", "3 Does it act?", "Failure decomposition"),
        data="<results>/figures/decomposition.csv",
    log:
        "<logs>/figures/decomposition.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("decomposition"),
    message:
        "Figure: failure decomposition"
    script:
        "../scripts/figure_decomposition.py"


rule table_diagnosis:
    input:
        refusal="<results>/tables/refusal.csv",
        decomposition="<results>/tables/decomposition.csv",
        separability="<results>/tables/separability.csv",
    output:
        marked(
            "diagnosis",
            caption="../../reports/captions/diagnosis.rst",
            category="3 Does it act?",
            labels={"figure": "Diagnosis per language"},
        ),
    log:
        "<logs>/tables/diagnosis.log",
    conda:
        "../../envs/base.yaml"
    params:
        code=table_code("diagnosis"),
    message:
        "Which failure, per language"
    script:
        "../scripts/table_diagnosis.py"
