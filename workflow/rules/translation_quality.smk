"""How good are the translations? Scores of what comes back, and the mark of languages below the thresholds.

Needs: what back-translations say, prompt by prompt. With any translation measured, every other table is made as
tables/unmarked/{table}.csv first and gets its column `translation` here, so that nothing reads one without the mark.
"""

if MEASURED:

    rule table_translation:
        input:
            compared=files_of("<results>/translations/compared/{language}.parquet", measured_cells()),
        output:
            as_table("translation", "Translations"),
        log:
            "<logs>/tables/translation.log",
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("statistics", "seed"),
            thresholds=settings.translation.thresholds.model_dump(),
            cells=measured_cells(),
            code=table_code("translation"),
        message:
            "Quality of translations"
        script:
            "../scripts/table_translation.py"

    rule figure_translation:
        input:
            translation="<results>/tables/translation.csv",
        output:
            figure=as_figure("translation", "5 Look for yourself", "How good the translations are"),
            data="<results>/figures/translation.csv",
        log:
            "<logs>/figures/translation.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            code=figure_code("translation"),
        message:
            "Figure: quality of translations"
        script:
            "../scripts/figure_translation.py"


for table, shown in MARKED.items():

    rule:
        name:
            f"mark_{table}"
        input:
            table=f"<results>/tables/unmarked/{table}.csv",
            translation="<results>/tables/translation.csv",
        output:
            report(f"<results>/tables/{table}.csv", **shown) if shown else f"<results>/tables/{table}.csv",
        log:
            f"<logs>/tables/marked/{table}.log",
        conda:
            "../../envs/base.yaml"
        params:
            code=table_code("marking"),
        message:
            f"Marking translated languages in {table}.csv"
        script:
            "../scripts/mark_table.py"
