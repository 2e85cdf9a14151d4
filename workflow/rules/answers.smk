"""The three questions answered: does it know, does it act, can a handful of examples repair it?

Needs: tables.
"""

READ = [
    *("refusal", "selectivity", "separability", "gates", "decomposition", "choices", "diagnosis", "positions"),
    "calibration",
]


rule table_findings:
    input:
        **{name: f"<results>/tables/{name}.csv" for name in READ},
    output:
        "<results>/tables/findings.json",
    log:
        "<logs>/tables/findings.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        tables=READ,
        code=table_code("findings"),
    message:
        "The three questions answered"
    script:
        "../scripts/table_findings.py"


rule figure_answers:
    input:
        refusal="<results>/tables/refusal.csv",
        separability="<results>/tables/separability.csv",
        choices="<results>/tables/choices.csv",
    output:
        figure=as_figure("answers", "1 The three answers", "Knows, acts, repaired"),
        data="<results>/figures/answers.csv",
    log:
        "<logs>/figures/answers.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("answers"),
    message:
        "Figure: knows, acts, repaired"
    script:
        "../scripts/figure_answers.py"


rule report_opening:
    input:
        findings="<results>/tables/findings.json",
        figure="<results>/figures/answers.svg",
        frame=str(REPORTS / "workflow.rst"),
        translation=translation_table(),
    output:
        "<results>/report/opening.rst",
    log:
        "<logs>/report/opening.log",
    conda:
        "../../envs/base.yaml"
    params:
        run=settings.run,
        models=MODELS,
        tiers=TIERS,
        as_released=settings.as_released(),
        organisms=settings.organisms(),
        code=code_hash("polygate.report.opening"),
    message:
        "The report's first page"
    script:
        "../scripts/report_opening.py"
