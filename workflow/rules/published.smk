"""What was measured, beside what the paper and the methods it compares with report.

Needs: tables.
"""


rule report_published:
    input:
        refusal="<results>/tables/refusal.csv",
        selectivity="<results>/tables/selectivity.csv",
        separability="<results>/tables/separability.csv",
        gates="<results>/tables/gates.csv",
        choices="<results>/tables/choices.csv",
    output:
        page=report(
            "<results>/report/published.html",
            caption="../../reports/captions/published.rst",
            category="5 Look for yourself",
            labels={"figure": "Measured beside published"},
        ),
        data="<results>/report/published.csv",
    log:
        "<logs>/report/published.log",
    conda:
        "../../envs/base.yaml"
    params:
        models={name: model.hub or "" for name, model in settings.models.items()},
        code=code_hash("polygate.report.published"),
    message:
        "Measured beside published"
    script:
        "../scripts/report_published.py"
