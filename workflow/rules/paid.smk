"""Judges that are paid: a rule of its own, which needs a network and a key.

Needs: prompts and completions. Its answers lie in resources/answers, where they are looked for before any call.
"""

if settings.judging.paid:

    rule judge_paid:
        input:
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            completions="<results>/{model}/completions/{arm}/{dataset}/{language}.parquet",
            intervention=branch(
                lambda wildcards: wildcards.arm in STEERED,
                then="<results>/{model}/interventions/{arm}/{dataset}/{language}.safetensors",
            ),
        output:
            "<results>/{model}/judgements/{judge}/{arm}/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/judge/{judge}/{arm}/{dataset}/{language}.log",
        wildcard_constraints:
            judge=any_of(settings.judging.paid),
            arm="(?!routed-)[^/]+",
        localrule: True
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("judging"),
            of=of_model,
            code=code("judge"),
        message:
            "Asking {wildcards.judge}, which is paid, about {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
        shell:
            "polygate judge --settings {params.settings:q} --judge {wildcards.judge:q} --dataset {wildcards.dataset:q}"
            " --language {wildcards.language:q} --prompts {input.prompts:q} --completions {input.completions:q}"
            " --arms {wildcards.arm} --interventions {input.intervention:q} --of {params.of:q} --outputs {output:q} 2> {log:q}"
