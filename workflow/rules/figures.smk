"""Figures, each an SVG with the CSV behind it, in the order of the paper's argument.

Needs: tables, and for the densities the projections of every model and language.
"""


rule figure_answers:
    input:
        refusal="<results>/tables/refusal.csv",
        separability="<results>/tables/separability.csv",
        choices="<results>/tables/choices.csv",
    output:
        figure=report(
            "<results>/figures/answers.svg",
            caption="../../reports/captions/answers.rst",
            category="1 The three answers",
            labels={"figure": "Knows, acts, repaired"},
        ),
        data="<results>/figures/answers.csv",
    log:
        "<logs>/figures/answers.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("answers"),
    message:
        "Figure: knows, acts, repaired"
    script:
        "../scripts/figure_answers.py"


rule figure_separability:
    input:
        separability="<results>/tables/separability.csv",
        choices="<results>/tables/choices.csv",
    output:
        figure=report(
            "<results>/figures/separability.svg",
            caption="../../reports/captions/separability.rst",
            category="2 Does it know?",
            labels={"figure": "AUC of v_HRL beside the surface"},
        ),
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
        figure=report(
            "<results>/figures/projections.svg",
            caption="../../reports/captions/projections.rst",
            category="2 Does it know?",
            labels={"figure": "Projections and thresholds"},
        ),
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


rule figure_refusal_by_tier:
    input:
        refusal="<results>/tables/refusal.csv",
    output:
        figure=report(
            "<results>/figures/refusal_by_tier.svg",
            caption="../../reports/captions/refusal_by_tier.rst",
            category="3 Does it act?",
            labels={"figure": "Refusal by tier"},
        ),
        data="<results>/figures/refusal_by_tier.csv",
    log:
        "<logs>/figures/refusal_by_tier.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("refusal_by_tier"),
    message:
        "Figure: refusal by tier"
    script:
        "../scripts/figure_refusal_by_tier.py"


rule figure_decomposition:
    input:
        decomposition="<results>/tables/decomposition.csv",
    output:
        figure=report(
            "<results>/figures/decomposition.svg",
            caption="../../reports/captions/decomposition.rst",
            category="3 Does it act?",
            labels={"figure": "Failure decomposition"},
        ),
        data="<results>/figures/decomposition.csv",
    log:
        "<logs>/figures/decomposition.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("decomposition"),
    message:
        "Figure: failure decomposition"
    script:
        "../scripts/figure_decomposition.py"


rule figure_gate_f1:
    input:
        gates="<results>/tables/gates.csv",
    output:
        figure=report(
            "<results>/figures/gate_f1.svg",
            caption="../../reports/captions/gate_f1.rst",
            category="4 Can a handful of examples repair it?",
            labels={"figure": "Gate F1 against budget"},
        ),
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


rule figure_selectivity:
    input:
        selectivity="<results>/tables/selectivity.csv",
    output:
        figure=report(
            "<results>/figures/selectivity.svg",
            caption="../../reports/captions/selectivity.rst",
            category="4 Can a handful of examples repair it?",
            labels={"figure": "Selectivity by arm and language"},
        ),
        data="<results>/figures/selectivity.csv",
    log:
        "<logs>/figures/selectivity.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("selectivity"),
    message:
        "Figure: selectivity by arm and language"
    script:
        "../scripts/figure_selectivity.py"


rule figure_dose:
    input:
        dose="<results>/tables/dose.csv",
    output:
        figure=report(
            "<results>/figures/dose.svg",
            caption="../../reports/captions/dose.rst",
            category="4 Can a handful of examples repair it?",
            labels={"figure": "Dose and response"},
        ),
        data="<results>/figures/dose.csv",
    log:
        "<logs>/figures/dose.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("dose"),
    message:
        "Figure: refusal, AUC and gate F1 against the dose"
    script:
        "../scripts/figure_dose.py"


rule figure_recoverability:
    input:
        recoverability="<results>/tables/recoverability.csv",
        separability="<results>/tables/separability.csv",
    output:
        figure=report(
            "<results>/figures/recoverability.svg",
            caption="../../reports/captions/recoverability.rst",
            category="2 Does it know?",
            labels={"figure": "Few-shot recoverability"},
        ),
        data="<results>/figures/recoverability.csv",
    log:
        "<logs>/figures/recoverability.log",
    conda:
        "../../envs/base.yaml"
    params:
        confidence=settings.statistics.confidence,
        code=figure_code("recoverability"),
    message:
        "Figure: few-shot recoverability"
    script:
        "../scripts/figure_recoverability.py"


rule figure_probes:
    input:
        probes="<results>/tables/probes.csv",
        gates="<results>/tables/gates.csv",
    output:
        figure=report(
            "<results>/figures/probes.svg",
            caption="../../reports/captions/probes.rst",
            category="4 Can a handful of examples repair it?",
            labels={"figure": "Probes compared"},
        ),
        data="<results>/figures/probes.csv",
    log:
        "<logs>/figures/probes.log",
    conda:
        "../../envs/base.yaml"
    params:
        rank=settings.gate.rank,
        confidence=settings.statistics.confidence,
        code=figure_code("probes"),
    message:
        "Figure: probes compared"
    script:
        "../scripts/figure_probes.py"
