"""The lab's fault catalogue: the kinds of a scenario that have a real counterpart, one line each."""

from drivers.lab.fault import LabFault
from drivers.lab.faults_network import (
    LinkDelay,
    LinkFlap,
    LinkLoss,
    Partition,
    StorageCut,
    SwitchLoss,
    ZookeeperCut,
)
from drivers.lab.faults_operator import OperatorDrain, OperatorRetire, OperatorUndrain, RollingRestart
from drivers.lab.faults_power import (
    BmcDead,
    BmcHung,
    BmcLying,
    BmcSlow,
    NewNode,
    NodeCrash,
    NodeCrashRepeated,
    PowerLoss,
)
from drivers.lab.faults_process import AgentCrash, ProcessPause, ServiceCrash, ServiceNeverHealthy, StewardPause
from drivers.lab.faults_quorum import (
    DiskFailure,
    MonitorLoss,
    OsdFlap,
    OsdLoss,
    QuorumLoss,
    SessionExpiry,
    StorageStall,
    ZookeeperCrash,
    ZookeeperLeaderCrash,
)

LAB_FAULTS: dict[str, type[LabFault]] = {
    "agent_crash": AgentCrash,
    "bmc_dead": BmcDead,
    "bmc_hung": BmcHung,
    "bmc_lying": BmcLying,
    "bmc_slow": BmcSlow,
    "disk_failure": DiskFailure,
    "link_delay": LinkDelay,
    "link_flap": LinkFlap,
    "link_loss": LinkLoss,
    "monitor_loss": MonitorLoss,
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
    "steward_pause": StewardPause,
    "storage_cut": StorageCut,
    "storage_stall": StorageStall,
    "switch_loss": SwitchLoss,
    "zookeeper_crash": ZookeeperCrash,
    "zookeeper_cut": ZookeeperCut,
    "zookeeper_leader_crash": ZookeeperLeaderCrash,
}
