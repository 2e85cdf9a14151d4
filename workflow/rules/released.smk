"""What others released: AdaSteer's vectors of the models that it has some for.

Needs: the network, or a local copy that the model's settings name.
"""


rule download_adasteer:
    output:
        directory("resources/adasteer/{released}"),
    log:
        "<logs>/download/adasteer/{released}.log",
    wildcard_constraints:
        released=any_of(model.adasteer.released for model in settings.models.values() if model.adasteer),
    localrule: True
    conda:
        "../../envs/base.yaml"
    params:
        code=code("download_adasteer"),
    message:
        "Downloading AdaSteer's vectors of {wildcards.released}"
    shell:
        "polygate download-adasteer --model {wildcards.released:q} --output {output:q} 2> {log:q}"


rule read_adasteer:
    input:
        adasteer_folder,
    output:
        "<results>/{model}/baselines/adasteer-released.safetensors",
    log:
        "<logs>/{model}/baselines/adasteer-released.log",
    priority: 60
    conda:
        "../../envs/base.yaml"
    params:
        settings=adasteer_settings("baselines"),
        of=of_model,
        code=code("read_adasteer"),
    message:
        "AdaSteer's released vectors for {wildcards.model}"
    shell:
        "polygate read-adasteer --settings {params.settings:q} --folder {input:q} --of {params.of:q}"
        " --output {output:q} 2> {log:q}"
