"""Who says what a completion is: refused, deflected, complied, garbled or unparsed.

Needs: prompts and the completions of the base arms; routed arms select from these judgements. The first judge is the
one of choices and headlines, the others stand beside it. Those that are paid are asked in paid.smk, guards, which are
models, in guards.smk.
"""


rule judge:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        completions=expand("<results>/{{model}}/completions/{arm}/{{dataset}}/{{language}}.parquet", arm=ARMS),
        interventions=expand(
            "<results>/{{model}}/interventions/{arm}/{{dataset}}/{{language}}.safetensors", arm=STEERED
        ),
        phrases=own_phrases,
    output:
        expand("<results>/{{model}}/judgements/{{judge}}/{arm}/{{dataset}}/{{language}}.parquet", arm=ARMS),
    log:
        "<logs>/{model}/judge/{judge}/{dataset}/{language}.log",
    wildcard_constraints:
        judge=RULES,
        dataset=any_of([MAIN, *STEERED_SETS]),
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("judging"),
        arms=ARMS,
        of=of_model,
        code=code("judge"),
    message:
        "Judging {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate judge --settings {params.settings:q} --judge {wildcards.judge:q} --dataset {wildcards.dataset:q}"
        " --language {wildcards.language:q} --prompts {input.prompts:q} --completions {input.completions:q}"
        " --arms {params.arms} --interventions {input.interventions:q} --of {params.of:q} --outputs {output:q} 2> {log:q}"


rule judge_arm:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        completions="<results>/{model}/completions/{arm}/{dataset}/{language}.parquet",
        intervention=branch(
            lambda wildcards: wildcards.arm in STEERED + SWEPT + BASELINES,
            then="<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
        ),
        phrases=own_phrases,
    output:
        "<results>/{model}/judgements/{judge}/{arm}/{dataset}/{language}.parquet",
    log:
        "<logs>/{model}/judge/{judge}/{arm}/{dataset}/{language}.log",
    wildcard_constraints:
        judge=RULES,
        # What one job judges together is never judged one by one. Said here, not as a ruleorder: that would make a job of
        # this rule, too, for each of those files, only to put it aside.
        arm=f"(?!routed-|({any_of(ARMS)})/({any_of([MAIN, *STEERED_SETS])})/)[^/]+",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("judging"),
        of=of_model,
        code=code("judge"),
    message:
        "Judging {wildcards.model} on {wildcards.dataset} in {wildcards.language}, {wildcards.arm}"
    shell:
        "polygate judge --settings {params.settings:q} --judge {wildcards.judge:q} --dataset {wildcards.dataset:q} --language {wildcards.language:q}"
        " --prompts {input.prompts:q} --completions {input.completions:q} --arms {wildcards.arm}"
        " --interventions {input.intervention:q} --of {params.of:q} --outputs {output:q} 2> {log:q}"


if len(JUDGES) > 1:

    rule route_judgements:
        input:
            scores="<results>/{model}/gate_scores/{dataset}/{language}.parquet",
            addition="<results>/{model}/judgements/{judge}/addition/{dataset}/{language}.parquet",
            ablation="<results>/{model}/judgements/{judge}/ablation/{dataset}/{language}.parquet",
        output:
            expand("<results>/{{model}}/judgements/{{judge}}/{arm}/{{dataset}}/{{language}}.parquet", arm=ROUTED),
        log:
            "<logs>/{model}/route/{judge}/{dataset}/{language}.log",
        wildcard_constraints:
            judge=any_of(JUDGES[1:]),
        conda:
            "../../envs/base.yaml"
        params:
            rank=settings.gate.rank,
            budgets=BUDGETS,
            of=of_model,
            code=code("route"),
        message:
            "Judgements of {wildcards.judge} on routed {wildcards.model}, {wildcards.dataset} in {wildcards.language}"
        shell:
            "polygate route --scores {input.scores:q} --rank {params.rank} --addition-judgements {input.addition:q}"
            " --ablation-judgements {input.ablation:q} --budgets {params.budgets} --judgements {output:q}"
            " --dataset {wildcards.dataset:q} --language {wildcards.language:q} --of {params.of:q} 2> {log:q}"


rule table_refusal:
    input:
        judgements=every_judgement_file(),
    output:
        as_table("refusal", "Refusal"),
    log:
        "<logs>/tables/refusal.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        judgements=every_judged_cell(),
        code=table_code("refusal"),
    message:
        "Refusal rates"
    script:
        "../scripts/table_refusal.py"


rule figure_refusal_by_tier:
    input:
        refusal="<results>/tables/refusal.csv",
    output:
        figure=as_figure("refusal_by_tier", "3 Does it act?", "Refusal by tier"),
        data="<results>/figures/refusal_by_tier.csv",
    log:
        "<logs>/figures/refusal_by_tier.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("refusal_by_tier"),
    message:
        "Figure: refusal by tier"
    script:
        "../scripts/figure_refusal_by_tier.py"
