import pytest

from scanlore.errors import ConfigError
from scanlore.training.launch import Launch, first_host, read_launch

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "here",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_NODELIST": "gpu-[003-004],login",
    "SLURM_JOB_ID": "1234567",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_CPUS_PER_TASK": "12",
}


def without(environ, *names):
    return {name: value for name, value in environ.items() if name not in names}


def test_torchrun():
    assert read_launch(TORCHRUN) == Launch(3, 4, 1, 2, "here", 29500)


def test_slurm():
    assert read_launch(SLURM) == Launch(5, 8, 1, 4, "gpu-003", 20000 + 1234569 % 10000, 12)


def test_what_the_user_says_of_the_meeting_counts():
    launch = read_launch(SLURM | {"MASTER_ADDR": "there", "MASTER_PORT": "1"})
    assert (launch.address, launch.port) == ("there", 1)


def test_torchrun_within_a_job_counts():
    assert read_launch(SLURM | TORCHRUN).rank == 3


@pytest.mark.parametrize(
    "environ",
    [{}, {"SLURM_JOB_ID": "1"}, SLURM | {"SLURM_NTASKS": "1"}, {"WORLD_SIZE": "1"}, without(SLURM, "SLURM_PROCID")],
)
def test_alone(environ):
    assert read_launch(environ) is None


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_half_of_torchrun_is_refused(name):
    with pytest.raises(ConfigError, match=f"missing: {name} ") as caught:
        read_launch(without(TORCHRUN, name))
    assert "unset" in str(caught.value)


@pytest.mark.parametrize("name", ["SLURM_LOCALID", "SLURM_JOB_NODELIST", "SLURM_JOB_ID"])
def test_half_of_slurm_is_refused(name):
    with pytest.raises(ConfigError, match=f"missing: {name}"):
        read_launch(without(SLURM, name))


def test_a_job_of_several_tasks_needs_srun():
    with pytest.raises(ConfigError, match="8 tasks, but this process was not started by srun"):
        read_launch(without(SLURM, "SLURM_STEP_ID"))


@pytest.mark.parametrize(("name", "value"), [("RANK", "first"), ("RANK", "4"), ("MASTER_PORT", "-1")])
def test_nonsense_is_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        read_launch(TORCHRUN | {name: value})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("one", "one"),
        ("a1,a2", "a1"),
        ("n[1-4]", "n1"),
        ("gpu-[003,7-9],x", "gpu-003"),
        ("r[1-2]-ib,y", "r1-ib"),
        ("node-a.cluster", "node-a.cluster"),
    ],
)
def test_first_host(nodes, first):
    assert first_host(nodes) == first
