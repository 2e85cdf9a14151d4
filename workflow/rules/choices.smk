"""What the model is steered with: layer, strength and ablation scope, chosen on validation prompts.

Needs: activations and directions of the tiers named in steering.chosen_on, and of the sources of gates.
"""

CHOOSING = [
    language
    for language in LANGUAGES
    if settings.languages.tier(language) in settings.steering.chosen_on or language in settings.languages.high
]
"""Languages that choosing layer, strength and ablation scope reads: those that decide, and the sources of gates."""

FITTED = ("gate.rank", "gate.solver", "gate.objective", "gate.ties")
"""What a gate without examples is fitted by: another budget is no other choice."""

OWN_PHRASES_OF_CHOOSING = [path for language in CHOOSING if (path := own_file(settings.judging.phrases, language))]
"""The user's own phrases of those languages."""


rule choose:
    input:
        prompts=expand("<results>/prompts/<main>/{language}.parquet", language=CHOOSING),
        phrases=OWN_PHRASES_OF_CHOOSING,
        activations=of_choosing("<results>/{model}/activations/<main>/{language}.safetensors"),
        directions=of_choosing("<results>/{model}/directions/{language}.safetensors"),
        model=model_folder,
    output:
        "<results>/{model}/choices.parquet",
    log:
        "<logs>/{model}/choose.log",
    benchmark:
        "<benchmarks>/{model}/choose.tsv"
    priority: 50
    conda:
        "../../envs/model.yaml"
    threads: forward_threads
    resources:
        gpu=gpus_of,
        mem=forward_mem,
        runtime=choose_minutes,
    params:
        settings=given("model", *FITTED, "steering", "generation", "judging", "seed"),
        languages=CHOOSING,
        sources=settings.languages.high,
        of=of_model,
        code=code("choose"),
    message:
        "Choosing layer, strength and ablation scope of {wildcards.model} on validation prompts"
    shell:
        "polygate choose --settings {params.settings:q} --model-folder {input.model:q} --languages {params.languages:q}"
        " --sources {params.sources:q} --prompts {input.prompts:q} --activations {input.activations:q}"
        " --directions {input.directions:q} --of {params.of:q} --output {output:q} 2> {log:q}"


rule table_choices:
    input:
        choices=expand("<results>/{model}/choices.parquet", model=MODELS),
        cast=cast_strengths(MODELS),
    output:
        as_table("choices", "Choices"),
    log:
        "<logs>/tables/choices.log",
    conda:
        "../../envs/base.yaml"
    params:
        models=whole_models() * (2 if cast_strengths(MODELS) else 1),
        cast_strength=fixed_cast_strength(),
        code=table_code("choices"),
    message:
        "What was chosen, by which criterion, on which prompts"
    script:
        "../scripts/table_choices.py"
