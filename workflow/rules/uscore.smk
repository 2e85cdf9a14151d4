"""At which layer do translations lie nearest to each other? The U-Score, which chooses the layer OMNIGuard reads.

Needs: activations (mean over tokens) of the pivot and of every other language.
"""

COMPARED_WITH_PIVOT = [language for language in LANGUAGES if language != settings.pivot]


rule uscore:
    input:
        pivot_activations=f"<results>/{{model}}/activations/<main>/{settings.pivot}.safetensors",
        pivot_prompts=f"<results>/prompts/<main>/{settings.pivot}.parquet",
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/{model}/uscore/{language}.parquet",
    log:
        "<logs>/{model}/uscore/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        pivot=settings.pivot,
        of=of_model,
        code=code("uscore"),
    message:
        "U-Score of {wildcards.model} in {wildcards.language}"
    shell:
        "polygate uscore --pivot {params.pivot:q} --language {wildcards.language:q}"
        " --pivot-activations {input.pivot_activations:q} --pivot-prompts {input.pivot_prompts:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_uscore:
    input:
        scores=expand("<results>/{model}/uscore/{language}.parquet", model=MODELS, language=COMPARED_WITH_PIVOT),
    output:
        as_table("uscore", "U-Score"),
    log:
        "<logs>/tables/uscore.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics"),
        cells=[{**cell, "dataset": ""} for cell in model_cells() if cell["language"] != settings.pivot],
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
