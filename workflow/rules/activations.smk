"""What the model represents: the residual stream after every block, for every prompt.

Needs: prompts and models. Forward passes of one model share a cell cache: the first job to miss loads the weights
once and computes every cell of that model whose inputs are there, the others find theirs (see polygate.forward.cells).
"""

PLANNED += [as_text(capture_job, model, *cell) for model in MODELS for cell in prompt_tables()]


rule capture:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        model=model_folder,
    output:
        "<results>/{model}/activations/{dataset}/{language}.safetensors",
    log:
        "<logs>/{model}/activations/{dataset}/{language}.log",
    priority: 50
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=forward_mem,
        runtime=capture_minutes,
    params:
        job=lambda wildcards: as_text(capture_job, wildcards.model, wildcards.dataset, wildcards.language),
        plan=str(PLAN),
        code=code("forward"),
    message:
        "Activations of {wildcards.model} on {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate forward --job {params.job:q} --plan {params.plan:q} --prompts {input.prompts:q} --output {output:q} 2> {log:q}"
