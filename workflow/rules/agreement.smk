"""Whom to believe: how far judges agree with one another and with people, and rates that people's labels correct.

Needs: judgements of several judges, or labels of people (judging.labels); without either there is nothing to compare.
"""

if len(JUDGES) > 1 or settings.judging.labels is not None:

    rule table_agreement:
        input:
            judgements=[judgement_file(cell) for cell in agreement_cells()],
            labels=branch(settings.judging.labels is not None, then=str(settings.judging.labels)),
        output:
            agreement=as_table("agreement", "Agreement of judges"),
            corrected=as_table("corrected", "Refusal corrected by people's labels"),
        log:
            "<logs>/tables/agreement.log",
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("statistics", "seed"),
            judgements=agreement_cells(),
            code=table_code("agreement"),
        message:
            "Agreement of judges with one another and with people"
        script:
            "../scripts/table_agreement.py"

    rule figure_agreement:
        input:
            agreement="<results>/tables/agreement.csv",
        output:
            figure=as_figure("agreement", "3 Does it act?", "Do judges agree?"),
            data="<results>/figures/agreement.csv",
        log:
            "<logs>/figures/agreement.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            code=figure_code("agreement"),
        message:
            "Figure: agreement of judges"
        script:
            "../scripts/figure_agreement.py"
