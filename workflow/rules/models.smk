"""Models: downloaded at a pinned revision, converted from a GGUF file, or trained here as model organisms; a local
folder needs no rule.

Needs: a hub to download from, a GGUF file or the package that carries it, or nothing at all for the organisms.
"""

GGUF = {model.gguf_name: model for model in settings.models.values() if model.gguf}
"""One of the models that share a GGUF file, by the name of the folder that the file is converted to."""


rule download_model:
    output:
        directory("resources/models/{model}"),
    log:
        "<logs>/{model}/download.log",
    wildcard_constraints:
        model=any_of(name for name, model in settings.models.items() if model.hub),
    localrule: True
    conda:
        "../../envs/model.yaml"
    params:
        settings=given("model"),
        code=code("download_model"),
    message:
        "Downloading {wildcards.model} at its pinned revision"
    shell:
        "polygate download-model --settings {params.settings:q} --output {output:q} 2> {log:q}"


rule convert_gguf:
    input:
        lambda wildcards: GGUF[wildcards.gguf].gguf_path or [],
    output:
        directory("resources/gguf/{gguf}"),
    log:
        "<logs>/gguf/{gguf}.log",
    benchmark:
        "<benchmarks>/gguf/{gguf}.tsv"
    wildcard_constraints:
        gguf=any_of(GGUF),
    priority: 100
    conda:
        "../../envs/model.yaml"
    threads: 1
    resources:
        # The float32 weights twice, the vocabulary, and the libraries.
        mem=lambda wildcards, attempt: f"{int((2 + 8e-9 * GGUF[wildcards.gguf].parameters) * attempt) + 1}GB",
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        source=lambda wildcards: GGUF[wildcards.gguf].gguf,
        code=code("convert_gguf"),
    message:
        "Converting {params.source} to a Hugging Face folder"
    shell:
        "polygate convert-gguf --source {params.source:q} --output {output:q} 2> {log:q}"


rule train_organism:
    output:
        directory("<results>/{model}/weights"),
    log:
        "<logs>/{model}/train.log",
    benchmark:
        "<benchmarks>/{model}/train.tsv"
    wildcard_constraints:
        model=any_of(name for name, model in settings.models.items() if model.organism),
    priority: 100
    conda:
        "../../envs/model.yaml"
    # A second thread gives nothing at this size; two models side by side do.
    threads: 1
    resources:
        mem=lambda wildcards, attempt: f"{2 * attempt}GB",
        runtime=lambda wildcards, attempt: 15 * attempt,
    params:
        settings=given("organism", "model"),
        code=code("train_organism"),
    message:
        "Training the model organism {wildcards.model}"
    shell:
        "polygate train-organism --settings {params.settings:q} --output {output:q} 2> {log:q}"
