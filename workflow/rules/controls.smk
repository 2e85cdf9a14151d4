"""What would the surface of the prompts give away without any model, and what does a small sentence encoder know? The
two baselines beside every separability number.

Needs: prompts; a sentence encoder (a package that carries it, or a hub to download it from) where there is to be one.
"""


rule surface:
    input:
        prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
        own_prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/surface/{language}.parquet",
    log:
        "<logs>/surface/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "seed"),
        sources=sources,
        code=code("surface"),
    message:
        "Surface baselines in {wildcards.language}"
    shell:
        "polygate surface --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q} --prompts {input.prompts:q}"
        " --own-prompts {input.own_prompts:q} --output {output:q} 2> {log:q}"


rule download_encoder:
    output:
        directory("resources/encoder"),
    log:
        "<logs>/download_encoder.log",
    localrule: True
    conda:
        "../../envs/model.yaml"
    params:
        settings=given("controls"),
        code=code("download_encoder"),
    message:
        "Downloading the sentence encoder at its pinned revision"
    shell:
        "polygate download-encoder --settings {params.settings:q} --output {output:q} 2> {log:q}"


rule embed:
    input:
        prompts="<results>/prompts/{dataset}/{language}.parquet",
        folder=encoder_folder(),
    output:
        "<results>/embeddings/{dataset}/{language}.safetensors",
    log:
        "<logs>/embeddings/{dataset}/{language}.log",
    benchmark:
        "<benchmarks>/embeddings/{dataset}/{language}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{3 * attempt}GB",
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=given("controls"),
        code=code("embed"),
    message:
        "Sentence embeddings of {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate embed --settings {params.settings:q} --folder {input.folder:q} --prompts {input.prompts:q}"
        " --language {wildcards.language:q} --cache results/cells --output {output:q} 2> {log:q}"


rule semantic:
    input:
        prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
        embeddings=of_sources("<results>/embeddings/<main>/{language}.safetensors"),
        own_prompts="<results>/prompts/<main>/{language}.parquet",
        own_embeddings="<results>/embeddings/<main>/{language}.safetensors",
    output:
        "<results>/semantic/{language}.parquet",
    log:
        "<logs>/semantic/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "controls", "seed"),
        sources=sources,
        code=code("semantic"),
    message:
        "What a small sentence encoder knows in {wildcards.language}"
    shell:
        "polygate semantic --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q} --prompts {input.prompts:q}"
        " --embeddings {input.embeddings:q} --own-prompts {input.own_prompts:q} --own-embeddings {input.own_embeddings:q}"
        " --output {output:q} 2> {log:q}"
