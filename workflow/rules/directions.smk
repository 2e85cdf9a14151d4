"""Does the model know? Difference-in-means directions per language, the high-resource direction and its subspace.

Needs: activations. The sources of a target language are the high-resource languages without that language.
"""


rule means:
    input:
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        "<results>/{model}/means/{language}.safetensors",
    log:
        "<logs>/{model}/means/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        of=of_model,
        code=code("means"),
    message:
        "Class means of {wildcards.model} in {wildcards.language}"
    shell:
        "polygate means --activations {input.activations:q} --prompts {input.prompts:q}"
        " --language {wildcards.language:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule directions:
    input:
        means=of_sources("<results>/{model}/means/{language}.safetensors"),
        own_means="<results>/{model}/means/{language}.safetensors",
        activations="<results>/{model}/activations/<main>/{language}.safetensors",
        prompts="<results>/prompts/<main>/{language}.parquet",
    output:
        directions="<results>/{model}/directions/{language}.safetensors",
        projections="<results>/{model}/projections/{language}.parquet",
    log:
        "<logs>/{model}/directions/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate.ranks", "pivot"),
        sources=sources,
        of=of_model,
        code=code("directions"),
    message:
        "Directions of {wildcards.model} for {wildcards.language}"
    shell:
        "polygate directions --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q}"
        " --means {input.means:q} --own-means {input.own_means:q} --activations {input.activations:q}"
        " --prompts {input.prompts:q} --directions {output.directions:q} --projections {output.projections:q}"
        " --of {params.of:q} 2> {log:q}"


rule table_separability:
    input:
        projections=expand("<results>/{model}/projections/{language}.parquet", model=MODELS, language=LANGUAGES),
        gate_scores=expand("<results>/{model}/gate_scores/<main>/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        semantics=semantic_files(),
        choices=expand("<results>/{model}/choices.parquet", model=MODELS),
    output:
        as_table("separability", "Separability"),
    log:
        "<logs>/tables/separability.log",
    benchmark:
        "<benchmarks>/tables/separability.tsv"
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed", "gate.rank"),
        cells=model_cells(),
        languages=language_cells(),
        encoded=semantic_cells(),
        models=whole_models(),
        code=table_code("separability"),
    message:
        "Separability by direction, beside its surface baselines"
    script:
        "../scripts/table_separability.py"


rule figure_separability:
    input:
        separability="<results>/tables/separability.csv",
        choices="<results>/tables/choices.csv",
    output:
        figure=as_figure("separability", "2 Does it know?", "AUC of v_HRL beside the surface"),
        data="<results>/figures/separability.csv",
    log:
        "<logs>/figures/separability.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("separability"),
    message:
        "Figure: AUC of v_HRL beside the surface baseline"
    script:
        "../scripts/figure_separability.py"


rule figure_projections:
    input:
        choices="<results>/tables/choices.csv",
        projections=expand("<results>/{model}/projections/{language}.parquet", model=MODELS, language=LANGUAGES),
    output:
        figure=as_figure("projections", "2 Does it know?", "Projections and thresholds"),
        data="<results>/figures/projections.csv",
    log:
        "<logs>/figures/projections.log",
    conda:
        "../../envs/base.yaml"
    params:
        models=MODELS,
        languages=LANGUAGES,
        tiers=TIERS,
        confidence=settings.statistics.confidence,
        code=figure_code("projections"),
    message:
        "Figure: projections on v_HRL by tier"
    script:
        "../scripts/figure_projections.py"
