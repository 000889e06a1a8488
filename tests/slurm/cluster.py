"""A real SLURM cluster of one node on loopback: Debian's packages, unpacked into a folder and never installed."""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
PluginDir={lib}/slurm-wlm
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerNode=10
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=200000,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
KillWait=30
ReturnToService=2
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} CPUs=8 RealMemory=1000
PartitionName=normal Nodes=ALL Default=YES PriorityTier=5 PreemptMode=OFF
PartitionName=low Nodes=ALL PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


class Unavailable(Exception):
    """The packages cannot be had here."""


class Cluster:
    """SLURM's three daemons as the user who calls, with everything that they write in one folder.

    Raises:
        Unavailable: no Debian, or its packages cannot be downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = _unpack(folder / "debian") | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Cluster":
        root, user = self.folder / "debian", pwd.getpwuid(os.getuid()).pw_name
        host, (port, node_port) = socket.gethostname().split(".")[0], _free_ports()
        lib = next((root / "usr/lib").glob("*/slurm-wlm")).parent
        (self.folder / "slurm.conf").write_text(CONF.format(**locals(), folder=self.folder))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        (self.folder / "munge.key").touch(0o600)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        try:
            munge = {"key": "key-file", "socket": "socket", "pid": "pid-file", "log": "log-file", "seed": "seed-file"}
            files = [f"--{option}={self.folder}/munge.{name}" for name, option in munge.items()]
            self.run("munged", "--force", *files)
            self.run("slurmctld-wlm", "-c")
            self.run("slurmd-wlm", "-c", "-N", "localhost", "-d", str(root / "usr/sbin/slurmstepd-wlm"))
            self.wait("a node that is idle", lambda: self.run("sinfo", "-h", "-o", "%t", "-p", "low") == "idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if (self.folder / "slurmctld.pid").exists():
            self.run("scancel", "--full", "--user", pwd.getpwuid(os.getuid()).pw_name)
            self.wait("an end of all jobs", lambda: not self.run("squeue", "-h"))
        for daemon in ("slurmd", "slurmctld", "munge"):
            _stop(self.folder / f"{daemon}.pid")

    def run(self, *command: str) -> str:
        """What a command of SLURM prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def wait(self, what: str, reached: Callable[[], bool], seconds: float = 600) -> None:
        """Waits until something is so."""
        end = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > end:
                raise TimeoutError(f"no {what} after {seconds} s\n{self.run('scontrol', 'show', 'jobs')}")
            time.sleep(0.1)


def _unpack(root: Path) -> dict[str, str]:
    """Debian's packages and those that they need and this machine lacks; the environment in which they work."""
    archives = root.with_name("packages")
    archives.mkdir()
    try:
        plan = _output("apt-get", "install", "-s", "--no-install-recommends", "--reinstall", *PACKAGES)
        needed = {line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")}
        _output("apt-get", "download", *needed, cwd=archives)
        for archive in archives.glob("*.deb"):
            _output("dpkg", "-x", str(archive), str(root))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise Unavailable(said.strip().splitlines()[-1]) from error
    lib = next((root / "usr/lib").glob("*/slurm-wlm")).parent
    path = os.pathsep.join([str(root / "usr/bin"), str(root / "usr/sbin"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": os.pathsep.join([str(lib), str(lib / "slurm-wlm")])}


def _output(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=600).stdout


def _free_ports() -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _stop(pid_file: Path) -> None:
    """Ends the daemon that wrote the file, and waits until it has ended."""
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
