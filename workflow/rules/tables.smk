"""The long tables that everything else reads: one row per estimate, with its interval and number of prompts.

Needs: judgements, gate scores, projections, surface baselines, choices, of every model and language.
"""

TABLES = ["refusal", "selectivity", "separability", "gates", "decomposition", "choices", "diagnosis"]
PROBE_TABLES = ["recoverability", "probes"]


rule table_refusal:
    input:
        judgements=judgement_files(),
    output:
        as_table("refusal", "Refusal"),
    log:
        "<logs>/tables/refusal.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        judgements=judged_cells(),
        code=table_code("refusal"),
    message:
        "Refusal rates"
    script:
        "../scripts/table_refusal.py"


rule table_selectivity:
    input:
        judgements=judgement_files(),
    output:
        as_table("selectivity", "Selectivity"),
    log:
        "<logs>/tables/selectivity.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        judgements=judged_cells(),
        code=table_code("selectivity"),
    message:
        "Selectivity by arm"
    script:
        "../scripts/table_selectivity.py"


rule table_separability:
    input:
        projections=expand("<results>/{model}/projections/{language}.parquet", model=MODELS, language=LANGUAGES),
        gate_scores=expand("<results>/{model}/gate_scores/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        choices=expand("<results>/{model}/choices.parquet", model=MODELS),
    output:
        as_table("separability", "Separability"),
    log:
        "<logs>/tables/separability.log",
    benchmark:
        "<benchmarks>/tables/separability.tsv"
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed", "gate"),
        cells=model_cells(),
        languages=language_cells(),
        models=whole_models(),
        code=table_code("separability"),
    message:
        "Separability by direction, beside its surface baselines"
    script:
        "../scripts/table_separability.py"


rule table_gates:
    input:
        gate_scores=expand("<results>/{model}/gate_scores/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
    output:
        as_table("gates", "Gates"),
    log:
        "<logs>/tables/gates.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        cells=model_cells(),
        languages=language_cells(),
        code=table_code("gates"),
    message:
        "Gates by rank and budget"
    script:
        "../scripts/table_gates.py"


rule table_decomposition:
    input:
        judgements=expand(
            f"<results>/{{model}}/judgements/{JUDGE}/none/{{language}}.parquet", model=MODELS, language=LANGUAGES
        ),
        gate_scores=expand("<results>/{model}/gate_scores/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
    output:
        as_table("decomposition", "Failure decomposition"),
    log:
        "<logs>/tables/decomposition.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed", "gate"),
        judgements=[{**cell, "arm": "none", "judge": JUDGE} for cell in model_cells()],
        cells=model_cells(),
        languages=language_cells(),
        code=table_code("decomposition"),
    message:
        "Failure decomposition"
    script:
        "../scripts/table_decomposition.py"


rule table_diagnosis:
    input:
        decomposition="<results>/tables/decomposition.csv",
        separability="<results>/tables/separability.csv",
    output:
        report(
            "<results>/tables/diagnosis.csv",
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


rule table_choices:
    input:
        choices=expand("<results>/{model}/choices.parquet", model=MODELS),
    output:
        as_table("choices", "Choices"),
    log:
        "<logs>/tables/choices.log",
    conda:
        "../../envs/base.yaml"
    params:
        models=whole_models(),
        code=table_code("choices"),
    message:
        "What was chosen, by which criterion, on which prompts"
    script:
        "../scripts/table_choices.py"


rule table_dose:
    input:
        refusal="<results>/tables/refusal.csv",
        separability="<results>/tables/separability.csv",
        choices="<results>/tables/choices.csv",
        gates="<results>/tables/gates.csv",
    output:
        as_table("dose", "Dose and response"),
    log:
        "<logs>/tables/dose.log",
    conda:
        "../../envs/base.yaml"
    params:
        doses=DOSES,
        rank=settings.gate.rank,
        budgets=BUDGETS,
        code=table_code("dose"),
    message:
        "Refusal, AUC and gate F1 against the dose of safety data"
    script:
        "../scripts/table_dose.py"


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


rule table_probes:
    input:
        means=expand("<results>/{model}/probes/comparison.parquet", model=MODELS),
    output:
        as_table("probes", "Probes compared"),
    log:
        "<logs>/tables/probes.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        models=whole_models(),
        code=table_code("probes"),
    message:
        "Probes compared"
    script:
        "../scripts/table_probes.py"


rule table_samples:
    input:
        prompts=expand("<results>/prompts/{language}.parquet", language=LANGUAGES),
        completions=completion_files(),
        judgements=judgement_files(),
    output:
        "<results>/tables/samples.csv",
    log:
        "<logs>/tables/samples.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("report", "seed"),
        languages=language_cells(),
        judgements=judged_cells(),
        code=table_code("samples"),
    message:
        "Sampled prompts with their completions"
    script:
        "../scripts/table_samples.py"


rule table_findings:
    input:
        **{name: f"<results>/tables/{name}.csv" for name in TABLES},
    output:
        "<results>/tables/findings.json",
    log:
        "<logs>/tables/findings.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        tables=TABLES,
        code=table_code("findings"),
    message:
        "The three questions answered"
    script:
        "../scripts/table_findings.py"


rule tables:
    input:
        expand(
            "<results>/tables/{table}.csv",
            table=[*TABLES, *PROBE_TABLES, "samples", *(["dose"] if DOSES else [])],
        ),
        rules.table_findings.output,
