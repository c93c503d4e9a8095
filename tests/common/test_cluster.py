"""The environment says which processes belong together."""

from __future__ import annotations

import pytest

from distill.common import cluster, metadata
from distill.errors import UserError

SLURM = {
    "SLURM_JOB_ID": "4097",
    "SLURM_STEP_NODELIST": "node[007-009,12],other",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
}
OPEN_MPI = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
}
GKE = {"TPU_WORKER_HOSTNAMES": "w-0.svc,w-1.svc,w-2.svc", "TPU_WORKER_ID": "1"}
SLICES = {
    "MEGASCALE_NUM_SLICES": "2",
    "MEGASCALE_SLICE_ID": "1",
    "MEGASCALE_COORDINATOR_ADDRESS": "first.svc:8080",
}
NAMES = ("SLURM_", "OMPI_", "TPU_", "MEGASCALE_")


@pytest.fixture
def environment(monkeypatch):
    """Sets these variables, and none of the others that `cluster` reads."""

    def set_all(**variables):
        for name in [*cluster.os.environ]:
            if name.startswith(NAMES):
                monkeypatch.delenv(name)
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    ("variables", "host", "port", "count", "index"),
    [
        (SLURM, "node007", 61441, 4, 2),
        ({**SLURM, "SLURM_STEP_NODELIST": "alone"}, "alone", 61441, 4, 2),
        ({**SLURM, "SLURM_STEP_NODELIST": "a1,b2"}, "a1", 61441, 4, 2),
        (OPEN_MPI, "10.96.0.1", 61440 + 1531576320 // 4096 % 4096, 2, 1),
        (GKE, "w-0.svc", 8476, 3, 1),
        ({**GKE, "TPU_PROCESS_ADDRESSES": "a:8470,b:8470"}, "a", 8476, 2, 1),
        ({**GKE, **SLICES}, "first.svc", 8476, 6, 4),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, "localhost", 8476, 1, 0),
    ],
)
def test_places(variables, host, port, count, index, environment):
    environment(**variables)
    place = cluster.detect()
    assert (place.host, place.port, place.count, place.index) == (host, port, count, index)


@pytest.mark.parametrize("variables", [SLURM, OPEN_MPI, GKE, {**GKE, **SLICES}])
def test_places_are_those_that_jax_finds(variables, environment, monkeypatch):
    from jax._src.clusters import cloud_tpu_cluster, ompi_cluster, slurm_cluster

    environment(**variables)
    tpu = cloud_tpu_cluster.GkeTpuCluster
    monkeypatch.setattr(tpu, "wait_for_coordinator", lambda *unused: None)
    monkeypatch.setattr(cloud_tpu_cluster, "get_tpu_env_value", cluster.os.environ.get)
    kinds = {"S": slurm_cluster.SlurmCluster, "O": ompi_cluster.OmpiCluster, "T": tpu}
    theirs, place = kinds[next(iter(variables))[0]], cluster.detect()
    port = str(place.port) if place.is_tpu else None  # jax's own default is another
    address = theirs.get_coordinator_address(timeout_secs=1, override_coordinator_port=port)
    assert address == f"{place.host}:{place.port}"
    assert (theirs.get_process_count(), theirs.get_process_id()) == (place.count, place.index)


def test_hosts_of_the_slice_have_names(environment):
    environment(**GKE, **SLICES)
    assert cluster.detect().names == {3: "w-0.svc", 4: "w-1.svc", 5: "w-2.svc"}


def test_the_metadata_server_names_a_slice(environment, monkeypatch):
    environment()
    values = {
        "attributes/agent-worker-number": "1",
        "attributes/worker-network-endpoints": "unknown:unknown:10.0.0.2,unknown:unknown:10.0.0.3",
        "attributes/tpu-env": "ZONE: 'z'\nMEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\n",
    }
    monkeypatch.setattr(cluster, "_has_tpu", lambda: True)
    monkeypatch.setattr(metadata, "is_compute_engine", lambda: True)
    monkeypatch.setattr(metadata, "read", values.get)
    place = cluster.detect()
    assert (place.host, place.count, place.index) == ("10.0.0.2", 4, 3)
    assert place.names[3] == "10.0.0.3"


def test_nothing_is_found_elsewhere(environment):
    environment()
    assert cluster.detect() is None and cluster.check_not_alone() is None


def test_an_environment_that_lacks_something_is_an_error(environment):
    environment(TPU_WORKER_HOSTNAMES="a,b")
    with pytest.raises(UserError, match=r"TPU_WORKER_ID.*give --coordinator_address"):
        cluster.detect()


def test_a_host_of_a_slice_is_not_started_alone(environment, monkeypatch):
    environment(**GKE)
    with pytest.raises(UserError, match=r"host 1 of the 3 hosts of a TPU.*alone.*--distributed"):
        cluster.check_not_alone()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert cluster.check_not_alone() is None


def test_a_task_of_slurm_may_work_alone_and_is_told(environment):
    environment(**SLURM)
    assert "Slurm started 4 processes" in cluster.check_not_alone()
    environment(**{**SLURM, "SLURM_NTASKS": "1"})
    assert cluster.check_not_alone() is None
