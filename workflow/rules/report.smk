"""The report: the last rule of the workflow makes reports/report.html.

Needs: findings, figures, samples, and the texts under reports/. A nested call of Snakemake builds it over the finished
workflow; options and profiles can't do that without breaking dry runs.
"""


report: first_page()


rule report_opening:
    input:
        findings="<results>/tables/findings.json",
        figure="<results>/figures/answers.svg",
        frame=str(REPORTS / "workflow.rst"),
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
        code=code_hash("polygate.report.opening"),
    message:
        "The report's first page"
    script:
        "../scripts/report_opening.py"


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


rule make_report:
    input:
        opening="<results>/report/opening.rst",
        samples="<results>/report/samples.html",
        published="<results>/report/published.html",
        figures=expand("<results>/figures/{figure}.svg", figure=FIGURES),
        tables=rules.tables.input,
        captions=[str(REPORTS / f"captions/{figure}.rst") for figure in CAPTIONS],
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
