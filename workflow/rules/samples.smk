"""Look for yourself: prompts with what the model said under each way of steering.

Needs: prompts, completions and judgements.
"""


rule table_samples:
    input:
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
        completions=completion_files(),
        judgements=judgement_files(),
    output:
        marked("samples"),
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


rule report_samples:
    input:
        "<results>/tables/samples.csv",
    output:
        report(
            "<results>/report/samples.html",
            caption="../../reports/captions/samples.rst",
            category="5 Look for yourself",
            labels={"figure": "Prompts and completions"},
        ),
    log:
        "<logs>/report/samples.log",
    conda:
        "../../envs/base.yaml"
    params:
        code=code_hash("polygate.report.samples"),
    message:
        "Browsable completions"
    script:
        "../scripts/report_samples.py"
