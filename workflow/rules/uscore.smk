"""At which layer do translations lie nearest to each other? The U-Score, which chooses the layer OMNIGuard reads.

Needs: activations (mean over tokens) and prompts, of all languages of a model.
"""


rule uscore:
    input:
        activations=expand("<results>/{{model}}/activations/<main>/{language}.safetensors", language=LANGUAGES),
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=LANGUAGES),
    output:
        "<results>/{model}/uscore.parquet",
    log:
        "<logs>/{model}/uscore.log",
    benchmark:
        "<benchmarks>/{model}/uscore.tsv"
    conda:
        "../../envs/base.yaml"
    resources:
        mem=lambda wildcards, attempt: f"{4 * attempt}GB",
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        pivot=settings.pivot,
        languages=LANGUAGES,
        of=of_model,
        code=code("uscore"),
    message:
        "U-Scores of {wildcards.model}"
    shell:
        "polygate uscore --pivot {params.pivot:q} --languages {params.languages:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_uscore:
    input:
        scores=expand("<results>/{model}/uscore.parquet", model=MODELS),
    output:
        as_table("uscore", "U-Score"),
    log:
        "<logs>/tables/uscore.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        models=whole_models(),
        tiers=dict(zip(LANGUAGES, LANGUAGE_TIERS)),
        code=table_code("uscore"),
    message:
        "U-Scores by layer"
    script:
        "../scripts/table_uscore.py"


rule figure_uscore:
    input:
        uscore="<results>/tables/uscore.csv",
    output:
        figure=as_figure("uscore", "2 Does it know?", "U-Score by layer"),
        data="<results>/figures/uscore.csv",
    log:
        "<logs>/figures/uscore.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("uscore"),
    message:
        "Figure: U-Score by layer"
    script:
        "../scripts/figure_uscore.py"
