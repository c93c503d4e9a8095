"""What a launch is: where, on which slice, with what command, and for how long at most."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from distill.common.flags import check_bounds, flag
from distill.errors import UserError, unknown
from distill.preflight.chips import Topology, topology

BACKENDS = ("instance_group", "gke", "queued_resource", "xpk", "skypilot")
PROVISIONING = ("on_demand", "spot", "reserved")
# Names of instances add five characters to a group's, and Compute Engine allows 63.
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
_MOST_HOURS = 24.0 * 30


@dataclasses.dataclass(frozen=True)
class LaunchSettings:
    """Settings of a launch, which are flags of `distill launch plan`; see the flags' help.

    Attributes:
      train_arguments: what follows `distill train`, without --run_dir and --distributed.
      job: what the hosts run instead of the training: `predict` and its flags, without
        --distributed. () is the training.
      gin_uploads: pairs of a local gin file and the name that the hosts read it by, in the bucket.
    """

    name: str = flag("", "name of the launch, and prefix of everything that it creates")
    backend: str = flag("instance_group", "what provides the slice", choices=BACKENDS)
    topology: str = flag("", "the slice, e.g. v6e:4x4, v5p:4x4x4, v7:2x2x2", metavar="CHIP:SIDES")
    project: str = flag("", "Google Cloud project")
    zone: str = flag("", "zone of the slice, e.g. us-east5-a")
    run_dir: str = flag("", "run folder, which every host sees: gs://BUCKET/...")
    provisioning: str = flag("on_demand", "how the slice is paid for", choices=PROVISIONING)
    reservation: str = flag("", "name of the reservation, with --provisioning=reserved")
    max_run_hours: float = flag(
        24.0, "the slice is deleted after this time at most", above=0, most=_MOST_HOURS
    )
    wait_hours: float = flag(
        4.0, "how long to wait for capacity before giving up", above=0, most=_MOST_HOURS
    )
    max_restarts: int = flag(
        10, "restarts after a preemption or a step that hung", least=0, most=1000
    )
    fallback_topology: tuple[str, ...] = flag(
        (),
        "a slice to restart on if --topology is not available then; repeatable, tried in order",
        metavar="CHIP:SIDES",
    )
    source: str = flag(
        "",
        "archive of distill's source, gs://BUCKET/....tar.gz, that hosts without --image install; "
        "default: the commit of this checkout, which `up` copies to the bucket",
    )
    image: str = flag("", "container image with distill; default: install from the source")
    coordinator_port: int = flag(
        8476, "port of the first host at which the others report", least=1024, most=65535
    )
    start_timeout: int = flag(
        600, "seconds that hosts wait for each other at the start", least=10, most=7200
    )
    network: str = flag("", "VPC network of the hosts; default: the project's default network")
    subnetwork: str = flag("", "subnetwork of the hosts; needs --network")
    service_account: str = flag(
        "",
        "service account of the hosts, which may read and write the bucket; default: "
        "the project's default account",
    )
    cluster: str = flag("", "name of the GKE cluster, with --backend=gke or xpk")
    queue: str = flag("", "name of Kueue's LocalQueue, with --backend=gke")
    price: float | None = flag(None, "price per chip-hour, for the cost", above=0)
    train_arguments: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    gin_uploads: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Checks the settings that do not depend on a back end.

        Raises:
          UserError: names the flag.
        """
        for name in ("name", "topology", "project", "zone", "run_dir"):
            if not getattr(self, name):
                raise UserError(f"--{name} is missing; see distill launch plan --help")
        if not _NAME.fullmatch(self.name):
            raise UserError(
                f"got --name={self.name!r}, expected at most 40 lower-case letters, digits and "
                "dashes, a letter first and no dash last"
            )
        for name, values in (("backend", BACKENDS), ("provisioning", PROVISIONING)):
            if getattr(self, name) not in values:
                raise unknown(name, getattr(self, name), values, f"--{name}")
        if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)+-[a-z]+", self.zone):
            raise UserError(f"got --zone={self.zone!r}, expected a zone such as us-east5-a")
        if not self.run_dir.startswith("gs://"):
            raise UserError(
                f"got --run_dir={self.run_dir!r}, expected gs://BUCKET/...: every host writes there"
            )
        check_bounds(self)
        if (self.provisioning == "reserved") != bool(self.reservation):
            raise UserError("--provisioning=reserved and --reservation=NAME must be given together")
        if self.subnetwork and not self.network:
            raise UserError("--subnetwork works only with --network")
        if self.image and self.source:
            raise UserError("--image and --source were both given, expected one of them")
        if self.source and not self.source.startswith("gs://"):
            raise UserError(f"got --source={self.source!r}, expected gs://BUCKET/....tar.gz")
        for text in (self.topology, *self.fallback_topology):
            topology(text)

    @property
    def slice(self) -> Topology:
        """The slice, parsed."""
        return topology(self.topology)

    @property
    def region(self) -> str:
        """The region of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def launch_dir(self) -> str:
        """Where the launch keeps what the hosts read: beside the run folder, in the bucket."""
        return f"{self.run_dir.rstrip('/')}.launch"

    @property
    def source_archive(self) -> str:
        """What hosts without a container image install."""
        return self.source or f"{self.launch_dir}/distill.tar.gz"

    @property
    def max_run_seconds(self) -> int:
        """`max_run_hours`, in whole seconds."""
        return math.ceil(self.max_run_hours * 3600)

    @property
    def task(self) -> str:
        """What messages call that which runs on the hosts."""
        return "prediction" if self.job else "training"

    @property
    def command(self) -> tuple[str, ...]:
        """What runs on every host."""
        training = ("train", *self.train_arguments, f"--run_dir={self.run_dir}")
        return (
            *("distill", *(self.job or training)),
            *("--distributed", f"--coordinator_port={self.coordinator_port}"),
            f"--start_timeout={self.start_timeout}",
        )

    @property
    def limited_command(self) -> tuple[str, ...]:
        """`command` that ends after `max_run_hours`, for services without such a limit."""
        limit = f"{self.max_run_seconds}s"
        return "timeout", "--kill-after=60s", limit, *self.command


def from_json(content: Mapping[str, object], where: str) -> LaunchSettings:
    """Settings as a state file has them.

    Args:
      content: of `dataclasses.asdict`, after JSON.
      where: the file, for messages.

    Raises:
      UserError: another field, such as one of a newer version; a value that is not valid.
    """
    fields = {field.name for field in dataclasses.fields(LaunchSettings)}
    for name in content:
        if name not in fields:
            raise UserError(
                f"{where} has the setting {name!r}, which this version of distill does not know: "
                "use the version that wrote the file"
            )
    values = {name: _tuples(value) for name, value in content.items()}
    try:
        return LaunchSettings(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"{where}: {error}") from error


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
