"""Further languages: the pivot's prompts translated by a model or read from files, and translated back.

Needs: the pivot's prompts; a translation model (a hub to download it from, or a local folder), or files. What a model has
translated lies in resources/translated, where it is looked for before the model is loaded.
"""


rule download_translator:
    output:
        directory("resources/translator"),
    log:
        "<logs>/download_translator.log",
    localrule: True
    conda:
        "../../envs/model.yaml"
    params:
        settings=translator_download(),
        code=code("download_model"),
    message:
        "Downloading the translation model at its pinned revision"
    shell:
        "polygate download-model --settings {params.settings:q} --output {output:q} 2> {log:q}"


rule translate:
    input:
        prompts=translated_prompts,
        model=translator_folder(),
    output:
        "<results>/translations/{translated}.parquet",
    log:
        "<logs>/translations/{translated}.log",
    benchmark:
        "<benchmarks>/translations/{translated}.tsv"
    wildcard_constraints:
        translated=any_of(MADE_TRANSLATIONS),
    priority: 200
    conda:
        "../../envs/model.yaml"
    threads: 8 if settings.translation.parameters >= 1e8 else 1
    resources:
        gpu=1,
        mem=translation_mem,
        runtime=translation_minutes,
    params:
        settings=translation_settings,
        language=translated_language,
        direction=translated_direction,
        code=code("translate"),
    message:
        "Translating: {wildcards.translated}"
    shell:
        "polygate translate --settings {params.settings:q} --folder {input.model:q} --prompts {input.prompts:q}"
        " --language {params.language:q} --direction {params.direction:q} --memory resources/translated"
        " --cache results/cells --output {output:q} 2> {log:q}"


rule read_translations:
    input:
        file=lambda wildcards: READ_TRANSLATIONS[wildcards.translated],
        prompts=translated_prompts,
    output:
        "<results>/translations/{translated}.parquet",
    log:
        "<logs>/translations/{translated}.log",
    wildcard_constraints:
        translated=any_of(READ_TRANSLATIONS),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        language=translated_language,
        direction=translated_direction,
        code=code("read_translations"),
    message:
        "Translations made elsewhere: {wildcards.translated}"
    shell:
        "polygate read-translations --file {input.file:q} --prompts {input.prompts:q} --language {params.language:q}"
        " --direction {params.direction:q} --output {output:q} 2> {log:q}"


rule prompts_translated:
    input:
        translations="<results>/translations/there/{language}.parquet",
        pivot=f"<results>/prompts/<main>/{settings.pivot}.parquet",
    output:
        "<results>/prompts/<main>/{language}.parquet",
    log:
        "<logs>/prompts/<main>/{language}.log",
    wildcard_constraints:
        language=any_of(TRANSLATED),
    priority: 200
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("prompts"),
        dataset=MAIN,
        code=code("prompts_translated"),
    message:
        "Prompts translated into {wildcards.language}"
    shell:
        "polygate prompts-translated --settings {params.settings:q} --dataset {params.dataset:q} --language {wildcards.language:q}"
        " --translations {input.translations:q} --pivot-table {input.pivot:q} --output {output:q} 2> {log:q}"


rule compare_translations:
    input:
        pivot=f"<results>/prompts/<main>/{settings.pivot}.parquet",
        prompts="<results>/prompts/<main>/{language}.parquet",
        there=translations_there,
        back="<results>/translations/back/{language}.parquet",
        embeddings=translation_embeddings,
        folder=encoder_folder(),
    output:
        "<results>/translations/compared/{language}.parquet",
    log:
        "<logs>/translations/compared/{language}.log",
    conda:
        "../../envs/model.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{3 * attempt}GB",
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=given("controls"),
        code=code("compare_translations"),
    message:
        "What comes back of {wildcards.language}"
    shell:
        "polygate compare-translations --settings {params.settings:q} --language {wildcards.language:q}"
        " --pivot-prompts {input.pivot:q} --prompts {input.prompts:q} --there {input.there:q} --back {input.back:q}"
        " --embeddings {input.embeddings:q} --folder {input.folder:q} --cache results/cells"
        " --output {output:q} 2> {log:q}"
