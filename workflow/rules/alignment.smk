"""Alignment: a pretrained model is fine-tuned to refuse in the languages that have many examples.

Needs: the pretrained model, and the prompts set aside for it (`prompts.align`) in every language that has examples.
"""


rule align:
    input:
        base=lambda wildcards: source_folder_of(wildcards.model),
        prompts=lambda wildcards: expand(
            "<results>/prompts/<main>/{language}.parquet", language=aligned(wildcards).budgets(settings.languages)
        ),
        template=lambda wildcards: settings.models[wildcards.model].chat_template or [],
    output:
        directory("<results>/{model}/weights"),
    log:
        "<logs>/{model}/align.log",
    benchmark:
        "<benchmarks>/{model}/align.tsv"
    wildcard_constraints:
        model=any_of(name for name, model in settings.models.items() if model.alignment),
    priority: 100
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        # Weights, gradients and the optimiser's two moments in float32, and the libraries.
        mem=lambda wildcards, attempt: f"{int((4 + 16 * settings.models[wildcards.model].parameters / 1e9) * attempt)}GB",
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=lambda wildcards: dump({"alignment": aligned(wildcards).resolved(settings.languages)}),
        name=lambda wildcards: (settings.models[wildcards.model].hub or Path(source_folder_of(wildcards.model)).name),
        seed=lambda wildcards: settings.models[wildcards.model].seed,
        attention=lambda wildcards: settings.models[wildcards.model].attention,
        arguments=lambda wildcards: json.dumps(settings.models[wildcards.model].template_arguments, sort_keys=True),
        code=code("align"),
    message:
        "Aligning {wildcards.model}: it learns to refuse where it has examples"
    shell:
        "polygate align --settings {params.settings:q} --base {input.base:q} --name {params.name:q}"
        " --prompts {input.prompts:q} --seed {params.seed} --attention {params.attention}"
        " --chat-template {input.template:q} --template-arguments {params.arguments:q}"
        " --cache results/cells --output {output:q} 2> {log:q}"
