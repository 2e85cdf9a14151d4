"""Prompts: one table per language, with the same prompt ids in every language.

Needs: PolyRefuse (downloaded, or a local folder), the organisms' invented languages, or plain files of one's own.
"""

EXTRA = [language for language in LANGUAGES if extra_file(language)]
FROM_SOURCE = {
    source: (
        [language for language in LANGUAGES if language not in EXTRA + TRANSLATED]
        if settings.prompts.source == source
        else []
    )
    for source in ("polyrefuse", "organism")
}


rule download_polyrefuse:
    output:
        directory("resources/polyrefuse"),
    log:
        "<logs>/download_polyrefuse.log",
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("prompts"),
        code=code("download_polyrefuse"),
    message:
        "Downloading PolyRefuse at its pinned revision"
    shell:
        "polygate download-polyrefuse --settings {params.settings:q} --output {output:q} 2> {log:q}"


rule prompts_polyrefuse:
    input:
        folder=str(settings.prompts.folder or "resources/polyrefuse"),
    output:
        "<results>/prompts/<main>/{language}.parquet",
    log:
        "<logs>/prompts/<main>/{language}.log",
    wildcard_constraints:
        language=any_of(FROM_SOURCE["polyrefuse"]),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("prompts"),
        pivot=settings.pivot,
        dataset=MAIN,
        code=code("prompts_polyrefuse"),
    message:
        "Prompts of PolyRefuse in {wildcards.language}"
    shell:
        "polygate prompts-polyrefuse --settings {params.settings:q} --dataset {params.dataset:q} --language {wildcards.language:q}"
        " --folder {input.folder:q} --pivot {params.pivot:q} --output {output:q} 2> {log:q}"


rule prompts_organism:
    output:
        "<results>/prompts/<main>/{language}.parquet",
    log:
        "<logs>/prompts/<main>/{language}.log",
    wildcard_constraints:
        language=any_of(FROM_SOURCE["organism"]),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("organism", "prompts"),
        dataset=MAIN,
        code=code("prompts_organism"),
    message:
        "Prompts in the invented language {wildcards.language}"
    shell:
        "polygate prompts-organism --settings {params.settings:q} --dataset {params.dataset:q} --language {wildcards.language:q}"
        " --output {output:q} 2> {log:q}"


rule prompts_extra:
    input:
        file=lambda wildcards: extra_file(wildcards.language),
        pivot=lambda wildcards: (
            [] if wildcards.language == settings.pivot else f"<results>/prompts/<main>/{settings.pivot}.parquet"
        ),
    output:
        "<results>/prompts/<main>/{language}.parquet",
    log:
        "<logs>/prompts/<main>/{language}.log",
    wildcard_constraints:
        language=any_of(EXTRA),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("prompts"),
        dataset=MAIN,
        code=code("prompts_extra"),
    message:
        "Prompts of your own in {wildcards.language}"
    shell:
        "polygate prompts-extra --settings {params.settings:q} --dataset {params.dataset:q} --language {wildcards.language:q}"
        " --file {input.file:q} --pivot-table {input.pivot:q} --output {output:q} 2> {log:q}"
