"""Where the workflow runs: who else runs it there, what a dead one left, and the Python that its jobs call."""

import gc
import inspect
from contextlib import suppress

if not os.access(".", os.W_OK):
    sys.exit(f"polygate: can't write in {Path.cwd()}, where results go: name a folder of your own with --directory")


def release_stale_locks():
    """Make `snakemake` after a `kill -9` work as it stands, without `--unlock` and without its leavings.

    Snakemake's own locks outlive a killed process, and so do the temporary files of its jobs. Every process that reads
    this workflow counts itself among the living; only who finds nobody else there may remove what a dead one left.
    """
    if not workflow.is_main_process:
        return None
    living = Path(".snakemake/polygate/alive")
    living.parent.mkdir(parents=True, exist_ok=True)

    def clean_up():
        for lock in Path(".snakemake/locks").glob("*.lock"):
            lock.unlink()
        for folder in ("results", "resources", "reports"):
            sweep(Path(folder))

    return join(living, clean_up)


ALIVE = release_stale_locks()


IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


def interpreter():
    """What every shell command begins with, so that `polygate` is the library of the Python that reads the workflow.

    Whether or not its environment is activated. With `--sdm conda` it is the conda environment's Python with the same
    library, since Snakemake takes PYTHONPATH away there. -P: no module of the working directory hides an installed one.
    exec: the job is a child of Snakemake's, without a shell between them; so it is the last command of its rule.
    """
    python, found = shlex.quote(sys.executable), ""
    if IN_CONDA:
        python, found = "python", f"export PYTHONPATH={shlex.quote(str(PACKAGE.parent))}; "
    command = f'set -euo pipefail; {found}polygate() {{ exec {python} -P -m polygate.cli "$@"; }}; '
    return command.replace("{", "{{").replace("}", "}}")


shell.prefix(interpreter())
# What envs/*.post-deploy.sh builds into a new conda environment.
os.environ.update(POLYGATE_SOURCE=str(PACKAGE.parent.parent))
# Its stages end when this process does.
announce()

# A graph of jobs holds hardly any garbage, and looking through it for some, each time 700 objects more were made than
# freed, was up to a sixth of a plan's time.
gc.set_threshold(200_000)


def tell_parameters():
    """Let Snakemake look up what input and params functions take, which it asks several times for every job."""
    for each in workflow.rules:
        for function in filter(inspect.isfunction, [*each.input, *each.params]):
            function.__signature__ = inspect.signature(function)


def match_each_file_once():
    """Let Snakemake find out once who makes a file, not for each job that reads it; that was two fifths of all calls."""
    from snakemake.output_index import OutputIndex

    OutputIndex.match_producers = cache(OutputIndex.match_producers)


def word_no_hidden_jobs():
    """Keep a dry run that lists no jobs (--quiet rules) from wording every one's message and command all the same."""
    from snakemake.jobs import Job
    from snakemake.settings.enums import Quietness

    if Quietness.RULES in (workflow.output_settings.quiet or ()):
        listed = Job.log_info
        Job.log_info = lambda job, **how: None if workflow.dryrun else listed(job, **how)


for quicken in (match_each_file_once, word_no_hidden_jobs):
    # A Snakemake that is built otherwise is slower at worst.
    with suppress(ImportError, AttributeError):
        quicken()


def look_only_when_a_job_ends():
    """Take away Snakemake's limit of jobs a second, which is meant for clusters, where jobs run on this machine.

    With the limit each look for ready jobs starts a timer for one more look, so every job that has ended adds a look a
    second for the rest of the run, each reading the sizes of all inputs: after hundreds of jobs, a whole core's work.
    """
    if workflow.local_exec and getattr(workflow.scheduler, "job_rate_limiter", None):
        workflow.scheduler.job_rate_limiter = None


def note_log(logs):
    """Note which of Snakemake's logs is of this run, for `polygate status`: with --quiet it doesn't say so itself."""
    for path in logs[:1]:
        write_text(Path(f".snakemake/polygate/{settings.run}.log"), Path(path).name)


onstart:
    note_log(log)
    look_only_when_a_job_ends()
    split_failed_groups()
    # Not where the workflow is read: a plan needs no packages, and in a conda environment there may be others.
    if not IN_CONDA:
        try:
            check_packages(settings, Path("resources/gguf"))
            check_keys(settings)
        except PolygateError as error:
            sys.exit(f"polygate: {error}")
