"""Dose and response: what refused examples in a language's alignment change, where models differ in them.

Needs: tables of refusal, separability, choices and gates.
"""

DOSES = low_doses()

if DOSES:

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
            confidence=settings.statistics.confidence,
            code=table_code("dose"),
        message:
            "Refusal, AUC and gate F1 against the dose of safety data, over alignments"
        script:
            "../scripts/table_dose.py"

    rule figure_dose:
        input:
            dose="<results>/tables/dose.csv",
        output:
            figure=as_figure("dose", "4 Can a handful of examples repair it?", "Dose and response"),
            data="<results>/figures/dose.csv",
        log:
            "<logs>/figures/dose.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            code=figure_code("dose"),
        message:
            "Figure: refusal, AUC and gate F1 against the dose"
        script:
            "../scripts/figure_dose.py"
