"""Judges that are models: what a guard is asked, its answers through the forward path, and its verdicts.

Needs: prompts, completions, and the guard's weights. Its answers about a completion are greedy completions of a prompt,
so they share the plan, the cell cache and the batches of the measured models; a guard is loaded once.
"""

PLANNED += [as_text(guard_job, name, *cell) for name in GUARDS for cell in guarded(name)]


if GUARDS:

    rule download_guard:
        output:
            directory("resources/guards/{judge}"),
        log:
            "<logs>/guards/{judge}/download.log",
        wildcard_constraints:
            judge=any_of(name for name in GUARDS if settings.judging.guards[name].hub),
        localrule: True
        conda:
            "../../envs/model.yaml"
        params:
            settings=guard_settings,
            code=code("download_model"),
        message:
            "Downloading the guard {wildcards.judge} at its pinned revision"
        shell:
            "polygate download-model --settings {params.settings:q} --output {output:q} 2> {log:q}"

    rule guard_framing:
        input:
            model=guard_folder,
        output:
            framing="<results>/guards/{judge}/framing.json",
            template="<results>/guards/{judge}/around.jinja",
        log:
            "<logs>/guards/{judge}/framing.log",
        priority: 100
        conda:
            "../../envs/model.yaml"
        params:
            settings=given("judging"),
            code=code("guard_framing"),
        message:
            "What the guard {wildcards.judge} is asked"
        shell:
            "polygate guard-framing --settings {params.settings:q} --judge {wildcards.judge:q} --model-folder {input.model:q}"
            " --framing {output.framing:q} --chat-template {output.template:q} 2> {log:q}"

    rule guard_prompts:
        input:
            framing="<results>/guards/{judge}/framing.json",
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            completions="<results>/{model}/completions/{arm}/{dataset}/{language}.parquet",
        output:
            "<results>/{model}/guarded/{judge}/asked/{arm}/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/guarded/{judge}/asked/{arm}/{dataset}/{language}.log",
        priority: 30
        conda:
            "../../envs/base.yaml"
        params:
            code=code("guard_prompts"),
        message:
            "Asking {wildcards.judge} about {wildcards.model} on {wildcards.dataset} in {wildcards.language}, {wildcards.arm}"
        shell:
            "polygate guard-prompts --framing {input.framing:q} --dataset {wildcards.dataset:q}"
            " --language {wildcards.language:q} --prompts {input.prompts:q} --completions {input.completions:q}"
            " --output {output:q} 2> {log:q}"

    rule guard_answers:
        input:
            prompts="<results>/{model}/guarded/{judge}/asked/{arm}/{dataset}/{language}.parquet",
            model=guard_folder,
            template="<results>/guards/{judge}/around.jinja",
        output:
            "<results>/{model}/guarded/{judge}/answers/{arm}/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/guarded/{judge}/answers/{arm}/{dataset}/{language}.log",
        priority: 20
        conda:
            "../../envs/model.yaml"
        threads: guard_threads
        resources:
            gpu=guard_gpus,
            mem=guard_mem,
            runtime=guard_minutes,
        params:
            job=lambda wildcards: as_text(
                guard_job, wildcards.judge, wildcards.model, wildcards.arm, wildcards.dataset, wildcards.language
            ),
            plan=str(PLAN),
            code=code("forward"),
        message:
            "Answers of {wildcards.judge} about {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
        shell:
            "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"

    rule judge_guard:
        input:
            framing="<results>/guards/{judge}/framing.json",
            answers="<results>/{model}/guarded/{judge}/answers/{arm}/{dataset}/{language}.parquet",
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            completions="<results>/{model}/completions/{arm}/{dataset}/{language}.parquet",
            intervention=branch(
                lambda wildcards: wildcards.arm in STEERED + BASELINES,
                then="<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
            ),
        output:
            "<results>/{model}/judgements/{judge}/{arm}/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/judge/{judge}/{arm}/{dataset}/{language}.log",
        wildcard_constraints:
            judge=any_of(GUARDS),
            arm="(?!routed-)[^/]+",
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("judging"),
            of=of_model,
            code=code("judge"),
        message:
            "Verdicts of {wildcards.judge} on {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
        shell:
            "polygate judge --settings {params.settings:q} --judge {wildcards.judge:q} --dataset {wildcards.dataset:q}"
            " --language {wildcards.language:q} --prompts {input.prompts:q} --completions {input.completions:q}"
            " --arms {wildcards.arm} --interventions {input.intervention:q} --framing {input.framing:q}"
            " --answers {input.answers:q} --of {params.of:q} --outputs {output:q} 2> {log:q}"
