"""Where `study` and `sweep` train: the words of --submit."""

from collections.abc import Sequence

from kilolayer.cli.values import values
from kilolayer.errors import ConfigurationError
from kilolayer.studies import Executor, by_ray, by_submitit

JOBS = 16
"""Jobs at once on a cluster, unless --jobs says another number."""

RAY = "ray"


def submitted(submit: Sequence[str], jobs: int | None) -> Executor:
    """Return what submits jobs to a cluster.

    Args:
        submit: `cluster=NAME`, or NAME alone in the first place, and parameters of the cluster.
        jobs: the largest number of jobs at once; None takes `JOBS`.

    Raises:
        ConfigurationError: for a cluster or a parameter that is not known, or a package that is not installed.
    """
    first, *rest = submit
    parameters = values([first if "=" in first else f"cluster={first}", *rest], flag="submit")
    jobs = JOBS if jobs is None else jobs
    if parameters.get("cluster") == RAY:
        return by_ray(jobs, {name: value for name, value in parameters.items() if name != "cluster"})
    if "cluster" in parameters and not isinstance(parameters["cluster"], str):
        raise ConfigurationError(f"submit: cluster={parameters['cluster']} must be a name, such as slurm or ray")
    return by_submitit(jobs, parameters)
