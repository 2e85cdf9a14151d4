"""What does steering cost where nothing is to be refused? A task with options, under every arm.

Needs: prompts of the tasks, models, interventions and gate scores. No text is generated: a forward pass gives the
logits of the options, and routed arms select between those of addition and ablation, as they do between texts.
"""

PLANNED += [
    as_text(score_job, cell["model"], cell["dataset"], cell["language"], cell["arm"]) for cell in scored_cells()
]


if TASKS:

    rule score_unsteered:
        input:
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            model=model_folder,
        output:
            "<results>/{model}/scores/none/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/scores/none/{dataset}/{language}.log",
        priority: 40
        conda:
            "../../envs/model.yaml"
        threads: forward_threads
        resources:
            gpu=gpus_of,
            mem=forward_mem,
            runtime=score_minutes,
        params:
            job=lambda wildcards: as_text(score_job, wildcards.model, wildcards.dataset, wildcards.language, "none"),
            plan=str(PLAN),
            code=code("forward"),
        message:
            "Option scores of {wildcards.model} on {wildcards.dataset} in {wildcards.language}, no steering"
        shell:
            "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"

    rule score_steered:
        input:
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            model=model_folder,
            intervention="<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
        output:
            "<results>/{model}/scores/{arm}/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/scores/{arm}/{dataset}/{language}.log",
        wildcard_constraints:
            arm="|".join(STEERED),
        priority: 40
        conda:
            "../../envs/model.yaml"
        threads: forward_threads
        resources:
            gpu=gpus_of,
            mem=forward_mem,
            runtime=score_minutes,
        params:
            job=lambda wildcards: as_text(
                score_job, wildcards.model, wildcards.dataset, wildcards.language, wildcards.arm
            ),
            plan=str(PLAN),
            code=code("forward"),
        message:
            "Option scores of {wildcards.model} on {wildcards.dataset} in {wildcards.language}, {wildcards.arm} on every prompt"
        shell:
            "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"

    rule table_utility:
        input:
            scores=files_of("<results>/{model}/scores/{arm}/{dataset}/{language}.parquet", scored_cells()),
            gate_scores=files_of("<results>/{model}/gate_scores/{dataset}/{language}.parquet", task_cells()),
            prompts=files_of("<results>/prompts/{dataset}/{language}.parquet", asked_cells()),
        output:
            as_table("utility", "Utility"),
        log:
            "<logs>/tables/utility.log",
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("gate.rank", "gate.budgets", "statistics", "seed"),
            scored=scored_cells(),
            cells=task_cells(),
            asked=asked_cells(),
            code=table_code("utility"),
        message:
            "Utility: tasks with options, by arm"
        script:
            "../scripts/table_utility.py"

    rule figure_utility:
        input:
            utility="<results>/tables/utility.csv",
        output:
            figure=as_figure("utility", "4 Can a handful of examples repair it?", "What steering costs in utility"),
            data="<results>/figures/utility.csv",
        log:
            "<logs>/figures/utility.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            code=figure_code("utility"),
        message:
            "Figure: utility by arm"
        script:
            "../scripts/figure_utility.py"
