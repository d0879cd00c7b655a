"""The fault catalogue: one file each, and one line each in ``FAULTS``, which is also the schema of ``[[fault]]``."""

from twin.faults.agent_crash import AgentCrash
from twin.faults.bad_image import BadImage
from twin.faults.base import Fault, Strike
from twin.faults.blocklist_failing import BlocklistFailing
from twin.faults.bmc_dead import BmcDead
from twin.faults.bmc_hung import BmcHung
from twin.faults.bmc_lying import BmcLying
from twin.faults.bmc_slow import BmcSlow
from twin.faults.clock_drift import ClockDrift
from twin.faults.clock_jump import ClockJump
from twin.faults.disk_failure import DiskFailure
from twin.faults.disk_slow import DiskSlow
from twin.faults.link_delay import LinkDelay
from twin.faults.link_flap import LinkFlap
from twin.faults.link_loss import LinkLoss
from twin.faults.lock_stuck import LockStuck
from twin.faults.monitor_loss import MonitorLoss
from twin.faults.netboot_failing import NetbootFailing
from twin.faults.new_node import NewNode
from twin.faults.node_crash import NodeCrash
from twin.faults.node_crash_repeated import NodeCrashRepeated
from twin.faults.operator_drain import OperatorDrain
from twin.faults.operator_retire import OperatorRetire
from twin.faults.operator_undrain import OperatorUndrain
from twin.faults.osd_flap import OsdFlap
from twin.faults.osd_loss import OsdLoss
from twin.faults.partition import Partition
from twin.faults.power_loss import PowerLoss
from twin.faults.process_pause import ProcessPause
from twin.faults.quorum_loss import QuorumLoss
from twin.faults.rolling_restart import RollingRestart
from twin.faults.service_crash import ServiceCrash
from twin.faults.service_never_healthy import ServiceNeverHealthy
from twin.faults.session_expiry import SessionExpiry
from twin.faults.slow_disk import SlowDisk
from twin.faults.steward_pause import StewardPause
from twin.faults.storage_cut import StorageCut
from twin.faults.storage_stall import StorageStall
from twin.faults.switch_loss import SwitchLoss
from twin.faults.zookeeper_crash import ZookeeperCrash
from twin.faults.zookeeper_cut import ZookeeperCut
from twin.faults.zookeeper_leader_crash import ZookeeperLeaderCrash

FAULTS: dict[str, type[Fault]] = {
    "agent_crash": AgentCrash,
    "bad_image": BadImage,
    "blocklist_failing": BlocklistFailing,
    "bmc_dead": BmcDead,
    "bmc_hung": BmcHung,
    "bmc_lying": BmcLying,
    "bmc_slow": BmcSlow,
    "clock_drift": ClockDrift,
    "clock_jump": ClockJump,
    "disk_failure": DiskFailure,
    "disk_slow": DiskSlow,
    "link_delay": LinkDelay,
    "link_flap": LinkFlap,
    "link_loss": LinkLoss,
    "lock_stuck": LockStuck,
    "monitor_loss": MonitorLoss,
    "netboot_failing": NetbootFailing,
    "new_node": NewNode,
    "node_crash": NodeCrash,
    "node_crash_repeated": NodeCrashRepeated,
    "operator_drain": OperatorDrain,
    "operator_retire": OperatorRetire,
    "operator_undrain": OperatorUndrain,
    "osd_flap": OsdFlap,
    "osd_loss": OsdLoss,
    "partition": Partition,
    "power_loss": PowerLoss,
    "process_pause": ProcessPause,
    "quorum_loss": QuorumLoss,
    "rolling_restart": RollingRestart,
    "service_crash": ServiceCrash,
    "service_never_healthy": ServiceNeverHealthy,
    "session_expiry": SessionExpiry,
    "slow_disk": SlowDisk,
    "steward_pause": StewardPause,
    "storage_cut": StorageCut,
    "storage_stall": StorageStall,
    "switch_loss": SwitchLoss,
    "zookeeper_crash": ZookeeperCrash,
    "zookeeper_cut": ZookeeperCut,
    "zookeeper_leader_crash": ZookeeperLeaderCrash,
}

__all__ = ["FAULTS", "Fault", "Strike"]
