"""What a cluster gets as one submission, and what becomes of a submission that failed.

Forward passes are one submission with one GPU for each model and phase. Most other jobs work for less time than a
cluster takes to start one, so those of one language follow one another in one submission, and so do all tables and
figures. Where jobs run on this machine there are no groups.
"""

TOGETHER = {
    "unsteered_{model}": ["capture", "capture_cast", "complete_unsteered", "score_unsteered"],
    "steered_{model}": ["complete_steered", "score_steered"],
    "guard_{judge}": ["guard_answers"],
    "prompts_{language}": [
        *("prompts_polyrefuse", "prompts_organism", "prompts_extra", "prompts_translated", "prompts_dataset")
    ],
    "embedded_{language}": ["embed"],
    "surface_{language}": ["surface", "semantic"],
    "means_{model}_{language}": ["means", "position_means"],
    "directions_{model}_{language}": ["directions", "positions"],
    "decided_{model}_{language}": [
        *("gates", "gate_scores", "ood", "sweep"),
        *("intervene", "intervene_adasteer", "intervene_cast", "intervene_cast_released"),
    ],
    "judged_{model}_{language}": ["judge", "judge_arm", "route"],
}
"""Jobs that are one submission, by the names of their rules. No job between two of them is elsewhere."""

LAST = ("table_", "mark_", "figure_", "paper_vs_measured", "report_")
"""How the names of rules begin that make tables, figures and pages."""


ELSEWHERE = ("--workflow-profile", "--profile", "--executor", "-e", "--group-components")
"""Options that may send jobs to another machine."""


def group_jobs():
    """Put jobs into groups, once all rules are read; how many parts of each are joined, profiles say.

    Not where nothing says that jobs go elsewhere: groups make a third of a plan's time.
    """
    said = {word.split("=")[0] for word in sys.argv}
    if not said & set(ELSEWHERE) and "SNAKEMAKE_PROFILE" not in os.environ:
        return
    allow_gpus_of_models()
    named = {name: group for group, names in TOGETHER.items() for name in names}
    for each in workflow.rules:
        if each.name.startswith(LAST):
            each.group = "tables"
        elif each.name in named:
            each.group = named[each.name]


def allow_gpus_of_models():
    """Let a submission have as many GPUs as a job of it needs: profiles say one, which is what most models take."""
    limit = getattr(workflow.global_resources.get("gpu"), "value", None)
    needed = max(model.gpus for model in (*settings.models.values(), *settings.judging.guards.values()))
    if limit is not None and limit < needed:
        workflow.global_resources["gpu"] = needed


def parts_of(jobs):
    """Into what a failed submission falls: its languages when it has several, else its jobs."""
    languages = {job.wildcards_dict.get("language") for job in jobs}
    by = (lambda job: str(job.wildcards_dict.get("language"))) if len(languages) > 1 else str
    parts = {}
    for job in sorted(jobs, key=str):
        parts.setdefault(by(job), []).append(job)
    return list(parts.values())


def regroup(jobs, name, attempt):
    """Make these jobs a submission of their own."""
    dag = workflow.dag
    group = dag.group_job_factory.new(name, jobs, workflow.global_resources)
    for job in jobs:
        job.group = name
        dag._group[job] = group
    group.finalize()
    group.attempt = attempt
    return group


def leave_to_themselves(failed):
    """Let what can still be made go on without a job, or a group of one, that has failed for good.

    A group waits for the inputs of all its members: those that need what failed, and so will never run, leave it.
    """
    dag = workflow.dag
    jobs = set(failed) if failed.is_group() else {failed}
    doomed = {job for job in dag.bfs(dag.depending, *jobs) if dag.needrun(job)} - jobs
    for group in {dag.get_job_group(job) for job in doomed} - {None, failed}:
        kept = [job for job in group if job not in doomed]
        for number, job in enumerate(job for job in group if job in doomed):
            regroup([job], f"{group.groupid}_without_{number}", group.attempt)
        if kept:
            regroup(kept, group.groupid, group.attempt)
            dag.update_ready(kept)


def split_failed_groups():
    """Make a failed language cost nothing but itself, where Snakemake would fail all that is submitted with it.

    A group that has failed as often as it may is submitted once more, in parts, with the resources of its last attempt:
    what its other members had computed lies in the cell cache. Only a part that fails again has failed.
    """
    scheduler, handle = workflow.scheduler, workflow.scheduler._handle_error

    def handle_error(job, **how):
        before = scheduler._errors
        handle(job, **how)
        if job not in scheduler.failed:
            return
        if not job.is_group() or len(job) == 1:
            leave_to_themselves(job)
            return
        scheduler.failed.discard(job)
        scheduler._errors = before
        groups = [regroup(part, f"{job.groupid}_part_{n}", job.attempt) for n, part in enumerate(parts_of(job))]
        for group in groups:
            workflow.dag.update_ready(list(group))

    scheduler._handle_error = handle_error
