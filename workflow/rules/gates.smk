"""Can a handful of examples repair the decision? Gates fitted, thresholds reset, by rank and budget.

Needs: activations, directions and choices. What gates say of other data sets follows from stored activations.
"""


rule gates:
    input:
        activations=of_sources("<results>/{model}/activations/<main>/{language}.safetensors"),
        prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
        own_activations="<results>/{model}/activations/<main>/{language}.safetensors",
        own_prompts="<results>/prompts/<main>/{language}.parquet",
        directions="<results>/{model}/directions/{language}.safetensors",
        choices="<results>/{model}/choices.parquet",
    output:
        gates=directory("<results>/{model}/gates/{language}"),
        scores="<results>/{model}/gate_scores/<main>/{language}.parquet",
    log:
        "<logs>/{model}/gates/{language}.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("gate", "seed"),
        sources=sources,
        of=of_model,
        code=code("gates"),
    message:
        "Gates of {wildcards.model} for {wildcards.language}, every budget and draw"
    shell:
        "polygate gates --settings {params.settings:q} --target {wildcards.language:q} --sources {params.sources:q}"
        " --activations {input.activations:q} --prompts {input.prompts:q}"
        " --own-activations {input.own_activations:q} --own-prompts {input.own_prompts:q}"
        " --directions {input.directions:q} --choices {input.choices:q}"
        " --gates {output.gates:q} --scores {output.scores:q} --of {params.of:q} 2> {log:q}"


if settings.datasets:

    rule gate_scores:
        input:
            gates="<results>/{model}/gates/{language}",
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            activations="<results>/{model}/activations/{dataset}/{language}.safetensors",
        output:
            "<results>/{model}/gate_scores/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/gate_scores/{dataset}/{language}.log",
        wildcard_constraints:
            dataset=any_of(settings.datasets),
        priority: 60
        conda:
            "../../envs/base.yaml"
        params:
            of=of_model,
            code=code("gate_scores"),
        message:
            "Gates of {wildcards.model} for {wildcards.language} on {wildcards.dataset}"
        shell:
            "polygate gate-scores --gates {input.gates:q} --dataset {wildcards.dataset:q}"
            " --language {wildcards.language:q} --prompts {input.prompts:q} --activations {input.activations:q}"
            " --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_gates:
    input:
        gate_scores=expand("<results>/{model}/gate_scores/<main>/{language}.parquet", model=MODELS, language=LANGUAGES),
        surfaces=expand("<results>/surface/{language}.parquet", language=LANGUAGES),
        semantics=semantic_files(),
    output:
        as_table("gates", "Gates"),
    log:
        "<logs>/tables/gates.log",
    conda:
        "../../envs/base.yaml"
    params:
        settings=given("statistics", "seed"),
        cells=model_cells(),
        languages=language_cells(),
        encoded=semantic_cells(),
        code=table_code("gates"),
    message:
        "Gates by rank and budget"
    script:
        "../scripts/table_gates.py"


rule figure_gate_f1:
    input:
        gates="<results>/tables/gates.csv",
    output:
        figure=as_figure("gate_f1", "4 Can a handful of examples repair it?", "Gate F1 against budget"),
        data="<results>/figures/gate_f1.csv",
    log:
        "<logs>/figures/gate_f1.log",
    conda:
        "../../envs/base.yaml"
    params:
        rank=settings.gate.rank,
        confidence=settings.statistics.confidence,
        code=figure_code("gate_f1"),
    message:
        "Figure: gate F1 against budget"
    script:
        "../scripts/figure_gate_f1.py"
