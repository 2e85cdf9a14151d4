"""The report: the last rule of the workflow makes reports/report.html.

Needs: findings, figures, samples, and the texts under reports/. A nested call of Snakemake builds it over the finished
workflow; options and profiles can't do that without breaking dry runs.
"""


report: first_page()


rule tables:
    input:
        expand("<results>/tables/{table}.csv", table=TABLES),
        "<results>/tables/diagnosis.csv",
        "<results>/tables/samples.csv",
        rules.table_findings.output,


rule make_report:
    input:
        opening="<results>/report/opening.rst",
        samples="<results>/report/samples.html",
        paper_vs_measured="<results>/report/paper_vs_measured.html",
        figures=expand("<results>/figures/{figure}.svg", figure=FIGURES),
        tables=rules.tables.input,
        captions=[
            str(REPORTS / f"captions/{figure}.rst")
            for figure in [*FIGURES, "diagnosis", "samples", "paper_vs_measured", "table"]
        ],
        stylesheet=str(REPORTS / "report.css"),
    output:
        report="reports/report.html",
        config="<results>/report/config.yaml",
    log:
        "<logs>/report/make_report.log",
    localrule: True
    conda:
        "../../envs/workflow.yaml"
    params:
        run=settings.run,
        snakefile=relative(workflow.main_snakefile),
        code=code_hash("polygate.report.make"),
    message:
        "reports/report.html"
    script:
        "../scripts/make_report.py"
