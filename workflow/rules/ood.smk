"""Do the gates hold out of distribution? Harmful prompts of other data sets, against harmless ones.

Needs: activations, gates, prompts, and embeddings where there is an encoder. No data set is fitted on here: it is tested
on as its prompts come. Gates on the surface and on embeddings stand beside each number, for two data sets differ in
more than harm.
"""

if OOD:

    rule ood:
        input:
            prompts="<results>/prompts/{dataset}/{language}.parquet",
            activations="<results>/{model}/activations/{dataset}/{language}.safetensors",
            gates="<results>/{model}/gates/{language}",
            own_prompts="<results>/prompts/<main>/{language}.parquet",
            own_activations="<results>/{model}/activations/<main>/{language}.safetensors",
            pivot_prompts=f"<results>/prompts/<main>/{settings.pivot}.parquet",
            pivot_activations=f"<results>/{{model}}/activations/<main>/{settings.pivot}.safetensors",
            source_prompts=of_sources("<results>/prompts/<main>/{language}.parquet"),
            embeddings=encoded("<results>/embeddings/{dataset}/{language}.safetensors"),
            own_embeddings=encoded("<results>/embeddings/<main>/{language}.safetensors"),
            pivot_embeddings=encoded(f"<results>/embeddings/<main>/{settings.pivot}.safetensors"),
            source_embeddings=encoded(of_sources("<results>/embeddings/<main>/{language}.safetensors")),
        output:
            "<results>/{model}/ood/{dataset}/{language}.parquet",
        log:
            "<logs>/{model}/ood/{dataset}/{language}.log",
        wildcard_constraints:
            dataset=any_of(OOD),
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("gate", "controls", "seed"),
            sources=sources,
            of=of_model,
            code=code("ood"),
        message:
            "Gates of {wildcards.model} for {wildcards.language} on {wildcards.dataset}, against harmless prompts"
        shell:
            "polygate ood --settings {params.settings:q} --dataset {wildcards.dataset:q} --target {wildcards.language:q}"
            " --prompts {input.prompts:q} --activations {input.activations:q} --gates {input.gates:q}"
            " --own-prompts {input.own_prompts:q} --own-activations {input.own_activations:q}"
            " --pivot-prompts {input.pivot_prompts:q} --pivot-activations {input.pivot_activations:q}"
            " --sources {params.sources:q} --source-prompts {input.source_prompts:q} --embeddings {input.embeddings:q}"
            " --own-embeddings {input.own_embeddings:q} --pivot-embeddings {input.pivot_embeddings:q}"
            " --source-embeddings {input.source_embeddings:q}"
            " --of {params.of:q} --output {output:q} 2> {log:q}"

    rule table_ood:
        input:
            scores=files_of("<results>/{model}/ood/{dataset}/{language}.parquet", ood_cells()),
        output:
            as_table("ood", "Out of distribution"),
        log:
            "<logs>/tables/ood.log",
        benchmark:
            "<benchmarks>/tables/ood.tsv"
        conda:
            "../../envs/base.yaml"
        params:
            settings=given("statistics", "seed"),
            cells=ood_cells(),
            code=table_code("ood"),
        message:
            "Gates out of distribution"
        script:
            "../scripts/table_ood.py"

    rule figure_ood:
        input:
            ood="<results>/tables/ood.csv",
        output:
            figure=as_figure("ood", "4 Can a handful of examples repair it?", "Gates out of distribution"),
            data="<results>/figures/ood.csv",
        log:
            "<logs>/figures/ood.log",
        conda:
            "../../envs/base.yaml"
        params:
            confidence=settings.statistics.confidence,
            code=figure_code("ood"),
        message:
            "Figure: gates out of distribution"
        script:
            "../scripts/figure_ood.py"
