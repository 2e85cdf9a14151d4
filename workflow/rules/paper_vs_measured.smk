"""What was measured, beside what the paper and the methods it compares with report.

Needs: the tables of the experiments that published numbers are compared with.
"""

from polygate.report.comparable import of_run


rule paper_vs_measured:
    input:
        **{name: f"<results>/tables/{name}.csv" for name in COMPARED if name in TABLES},
    output:
        table=as_table("paper_vs_measured", "Measured beside published"),
        page=report(
            "<results>/report/paper_vs_measured.html",
            caption="../../reports/captions/paper_vs_measured.rst",
            category="5 Look for yourself",
            labels={"figure": "Measured beside published"},
        ),
    log:
        "<logs>/tables/paper_vs_measured.log",
    conda:
        "../../envs/base.yaml"
    params:
        models={name: model.hub or "" for name, model in settings.models.items()},
        run=of_run(settings),
        code=code_hash("polygate.report.paper_vs_measured"),
    message:
        "Measured beside published"
    script:
        "../scripts/paper_vs_measured.py"
