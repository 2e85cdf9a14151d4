"""Does the model act? Completions left alone, steered towards refusal, steered away from it, and routed by a gate.

Needs: prompts, models, interventions and gate scores. Greedy text does not depend on the batch, so a routed
completion is the prompt's `addition` completion where its gate says harmful and its `ablation` completion where it
says harmless: routed arms of every budget and draw are selections, and cost no generation.
"""

PLANNED += [
    as_text(generate_job, model, dataset, language, arm)
    for model in MODELS
    for arm in ARMS
    for dataset, language in prompt_tables()
    if arm in arms_of(dataset)
]


rule complete_unsteered:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        model=model_folder,
    output:
        "<results>/{model}/completions/none/{dataset}/{language}.parquet",
    log:
        "<logs>/{model}/completions/none/{dataset}/{language}.log",
    priority: 40
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=forward_mem,
        runtime=answer_minutes,
    params:
        job=lambda wildcards: as_text(generate_job, wildcards.model, wildcards.dataset, wildcards.language, "none"),
        plan=str(PLAN),
        code=code("forward"),
    message:
        "Completions of {wildcards.model} on {wildcards.dataset} in {wildcards.language}, no steering"
    shell:
        "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"


rule complete_steered:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        model=model_folder,
        intervention="<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
    output:
        "<results>/{model}/completions/{arm}/{dataset}/{language}.parquet",
    log:
        "<logs>/{model}/completions/{arm}/{dataset}/{language}.log",
    wildcard_constraints:
        arm=any_of(STEERED + SWEPT + BASELINES),
    priority: 40
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=forward_mem,
        runtime=answer_minutes,
    params:
        job=lambda wildcards: as_text(
            generate_job, wildcards.model, wildcards.dataset, wildcards.language, wildcards.arm
        ),
        plan=str(PLAN),
        code=code("forward"),
    message:
        "Completions of {wildcards.model} on {wildcards.dataset} in {wildcards.language}, {wildcards.arm} on every prompt"
    shell:
        "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"


rule route:
    input:
        scores="<results>/{model}/gate_scores/{dataset}/{language}.parquet",
        addition_completions="<results>/{model}/completions/addition/{dataset}/{language}.parquet",
        ablation_completions="<results>/{model}/completions/ablation/{dataset}/{language}.parquet",
        addition_judgements=f"<results>/{{model}}/judgements/{JUDGE}/addition/{{dataset}}/{{language}}.parquet",
        ablation_judgements=f"<results>/{{model}}/judgements/{JUDGE}/ablation/{{dataset}}/{{language}}.parquet",
    output:
        completions=expand("<results>/{{model}}/completions/{arm}/{{dataset}}/{{language}}.parquet", arm=ROUTED),
        judgements=expand(
            f"<results>/{{{{model}}}}/judgements/{JUDGE}/{{arm}}/{{{{dataset}}}}/{{{{language}}}}.parquet", arm=ROUTED
        ),
    log:
        "<logs>/{model}/route/{dataset}/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        rank=settings.gate.rank,
        budgets=BUDGETS,
        of=of_model,
        code=code("route"),
    message:
        "Routing {wildcards.model} on {wildcards.dataset} in {wildcards.language} by its gates"
    shell:
        "polygate route --scores {input.scores:q} --rank {params.rank}"
        " --addition-completions {input.addition_completions:q} --ablation-completions {input.ablation_completions:q}"
        " --addition-judgements {input.addition_judgements:q} --ablation-judgements {input.ablation_judgements:q}"
        " --budgets {params.budgets} --completions {output.completions:q} --judgements {output.judgements:q}"
        " --dataset {wildcards.dataset:q} --language {wildcards.language:q} --of {params.of:q} 2> {log:q}"


rule table_selectivity:
    input:
        judgements=[judgement_file(cell) for cell in judged_cells() + beside(judged_cells())],
    output:
        as_table("selectivity", "Selectivity"),
    log:
        "<logs>/tables/selectivity.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        judgements=judged_cells() + beside(judged_cells()),
        code=table_code("selectivity"),
    message:
        "Selectivity by arm"
    script:
        "../scripts/table_selectivity.py"


rule figure_selectivity:
    input:
        selectivity="<results>/tables/selectivity.csv",
    output:
        figure=as_figure("selectivity", "4 Can a handful of examples repair it?", "Selectivity by arm and language"),
        data="<results>/figures/selectivity.csv",
    log:
        "<logs>/figures/selectivity.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("selectivity"),
    message:
        "Figure: selectivity by arm and language"
    script:
        "../scripts/figure_selectivity.py"
