"""At which token is it read? Harmfulness, and refusal, by position and layer, beside the surface and a small encoder.

Needs: activations, the chosen layer, surface (and semantic) baselines, judgements of unsteered completions.
"""


rule position_means:
    input:
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/{model}/position_means/{language}.safetensors",
    log:
        "<logs>/{model}/position_means/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        of=of_model,
        code=code("position_means"),
    message:
        "Class means by position of {wildcards.model} in {wildcards.language}"
    shell:
        "polygate position-means --activations {input.activations:q} --prompts {input.prompts:q}"
        " --language {wildcards.language:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule positions:
    input:
        means=of_sources("<results>/{model}/position_means/{language}.safetensors"),
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/{model}/positions/{language}.parquet",
    log:
        "<logs>/{model}/positions/{language}.log",
    conda:
        "../../envs/base.yaml"
    params:
        pivot=settings.pivot,
        sources=sources,
        of=of_model,
        code=code("positions"),
    message:
        "Projections by position of {wildcards.model} in {wildcards.language}"
    shell:
        "polygate positions --pivot {params.pivot:q} --target {wildcards.language:q} --sources {params.sources:q}"
        " --means {input.means:q} --activations {input.activations:q} --prompts {input.prompts:q}"
        " --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_positions:
    input:
        scores=expand("<results>/{model}/positions/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        semantics=semantic_files(),
        judgements=expand(
            f"<results>/{{model}}/judgements/{JUDGE}/none/<main>/{{language}}.parquet",
            model=MODELS,
            language=LANGUAGES,
        ),
        choices=expand("<results>/{model}/choices.parquet", model=MODELS),
    output:
        as_table("positions", "Positions"),
    log:
        "<logs>/tables/positions.log",
    benchmark:
        "<benchmarks>/tables/positions.tsv"
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        cells=model_cells(),
        languages=language_cells(),
        encoded=semantic_cells(),
        judgements=[{**cell, "arm": "none", "judge": JUDGE} for cell in model_cells()],
        models=whole_models(),
        high=TIERS["high"],
        code=table_code("positions"),
    message:
        "Harmfulness and refusal by token position"
    script:
        "../scripts/table_positions.py"


rule figure_positions:
    input:
        positions="<results>/tables/positions.csv",
    output:
        figure=as_figure("positions", "2 Does it know?", "AUC by layer and token position"),
        data="<results>/figures/positions.csv",
    log:
        "<logs>/figures/positions.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("positions"),
    message:
        "Figure: AUC by layer and token position"
    script:
        "../scripts/figure_positions.py"
