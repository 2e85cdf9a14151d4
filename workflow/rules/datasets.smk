"""Data sets that are only ever tested on: their prompt tables, from files that are local, downloaded or made.

Needs: the prompts that everything is fitted on, among which no tested prompt may stand; the data set's files.
"""

DOWNLOADED = {
    dataset.source: sources_of(dataset).PUBLISHED for dataset in settings.datasets.values() if dataset.folder is None
}
"""Data sets that are downloaded, with what is."""


rule download_dataset:
    output:
        directory("resources/{source}"),
    log:
        "<logs>/download/{source}.log",
    wildcard_constraints:
        source=any_of(source for source, published in DOWNLOADED.items() if published),
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        published=lambda wildcards: str(DOWNLOADED[wildcards.source]),
        code=code("download_dataset"),
    message:
        "Downloading {wildcards.source} at its pinned revision"
    shell:
        "polygate download-dataset --source {wildcards.source:q} --output {output:q} 2> {log:q}"


rule download_global_mmlu:
    output:
        directory("resources/global_mmlu/{language}"),
    log:
        "<logs>/download/global_mmlu/{language}.log",
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        code=code("download_global_mmlu"),
    message:
        "Downloading Global-MMLU in {wildcards.language}"
    shell:
        "polygate download-global-mmlu --language {wildcards.language:q} --output {output:q} 2> {log:q}"


rule prompts_dataset:
    input:
        files=dataset_files,
        fitted="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/prompts/{dataset}/{language}.parquet",
    log:
        "<logs>/prompts/{dataset}/{language}.log",
    wildcard_constraints:
        dataset=any_of(settings.datasets),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        settings=dataset_settings,
        origin=lambda wildcards: code_hash(f"polygate.prompts.sources.{dataset_of(wildcards).source}"),
        code=code("prompts_dataset"),
    message:
        "Prompts of {wildcards.dataset} in {wildcards.language}"
    shell:
        "polygate prompts-dataset --settings {params.settings:q} --dataset {wildcards.dataset:q}"
        " --language {wildcards.language:q} --fitted {input.fitted:q} --output {output:q} 2> {log:q}"


rule tested:
    input:
        [
            f"<results>/{model}/gate_scores/{dataset}/{language}.parquet"
            for model in MODELS
            for dataset, language in prompt_tables()
            if dataset != MAIN
        ],
