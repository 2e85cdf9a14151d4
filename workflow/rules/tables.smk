rule tables:
    input:
        expand(
            "<results>/{model}/judgements/{judge}/{arm}/{language}.parquet",
            model=MODELS,
            judge=JUDGE,
            arm=[*ARMS, *ROUTED],
            language=LANGUAGES,
        ),
        expand("<results>/surface/{language}.parquet", language=LANGUAGES),
