"""Do published ways of conditional steering repair it as well? AdaSteer and CAST beside ours, in low-resource languages.

Needs: what AdaSteer and CAST do to each prompt. Both decide from the unsteered prompt, so that is an intervention like
any other, and their completions and judgements join those of the other arms in refusal.csv and selectivity.csv.
"""

PLANNED += [as_text(generate_job, cell["model"], MAIN, cell["language"], arm) for arm, cell in baseline_cells()]

if BASELINES and settings.languages.low:

    rule table_baselines:
        input:
            judgements=[file for file, cell in zip(judgement_files(), judged_cells()) if cell["tier"] == "low"],
        output:
            as_table("baselines", "Published ways of steering"),
        log:
            "<logs>/tables/baselines.log",
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("statistics", "seed"),
            judgements=[cell for cell in judged_cells() if cell["tier"] == "low"],
            code=table_code("baselines"),
        message:
            "Routed arms against published ways of steering"
        script:
            "../scripts/table_baselines.py"

    rule figure_baselines:
        input:
            selectivity="<results>/tables/selectivity.csv",
        output:
            figure=as_figure("baselines", "4 Can a handful of examples repair it?", "Published ways of steering"),
            data="<results>/figures/baselines.csv",
        log:
            "<logs>/figures/baselines.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            cast_strength=settings.baselines.cast.strength,
            code=figure_code("baselines"),
        message:
            "Figure: published ways of steering beside ours"
        script:
            "../scripts/figure_baselines.py"
