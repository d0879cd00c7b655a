"""The fault catalogue: one file each, and one line each in ``FAULTS``, which is also the schema of ``[[fault]]``."""

from twin.faults.agent_crash import AgentCrash
from twin.faults.answer_late import AnswerLate
from twin.faults.bad_batch import BadBatch
from twin.faults.bad_image import BadImage
from twin.faults.base import Fault, Strike
from twin.faults.blocklist_failing import BlocklistFailing
from twin.faults.bmc_answer_lost import BmcAnswerLost
from twin.faults.bmc_bootdev_ignored import BmcBootdevIgnored
from twin.faults.bmc_cycle_refused import BmcCycleRefused
from twin.faults.bmc_dead import BmcDead
from twin.faults.bmc_deaf_to_on import BmcDeafToOn
from twin.faults.bmc_hangs_after import BmcHangsAfter
from twin.faults.bmc_hung import BmcHung
from twin.faults.bmc_lying import BmcLying
from twin.faults.bmc_order_late import BmcOrderLate
from twin.faults.bmc_order_repeated import BmcOrderRepeated
from twin.faults.bmc_report_late import BmcReportLate
from twin.faults.bmc_session_refused import BmcSessionRefused
from twin.faults.bmc_sessions_dropped import BmcSessionsDropped
from twin.faults.bmc_slow import BmcSlow
from twin.faults.bmc_wrong_password import BmcWrongPassword
from twin.faults.boot_slow import BootSlow
from twin.faults.boot_twice import BootTwice
from twin.faults.card_swapped import CardSwapped
from twin.faults.clock_drift import ClockDrift
from twin.faults.clock_jump import ClockJump
from twin.faults.clock_slew import ClockSlew
from twin.faults.close_hangs import CloseHangs
from twin.faults.commit_answer_lost import CommitAnswerLost
from twin.faults.commit_lost import CommitLost
from twin.faults.commit_pause import CommitPause
from twin.faults.dhcp_offer_lost import DhcpOfferLost
from twin.faults.disk_failure import DiskFailure
from twin.faults.disk_slow import DiskSlow
from twin.faults.ephemeral_late import EphemeralLate
from twin.faults.exit_after_healthy import ExitAfterHealthy
from twin.faults.exit_told_late import ExitToldLate
from twin.faults.fence_answer_lost import FenceAnswerLost
from twin.faults.fence_late import FenceLate
from twin.faults.follower_lag import FollowerLag
from twin.faults.group_slow import GroupSlow
from twin.faults.heartbeats_lost import HeartbeatsLost
from twin.faults.image_flawed import ImageFlawed
from twin.faults.image_swapped import ImageSwapped
from twin.faults.installed_by_hand import InstalledByHand
from twin.faults.kernel_panic import KernelPanic
from twin.faults.lift_answer_lost import LiftAnswerLost
from twin.faults.link_delay import LinkDelay
from twin.faults.link_flap import LinkFlap
from twin.faults.link_lopsided import LinkLopsided
from twin.faults.link_loss import LinkLoss
from twin.faults.lock_stuck import LockStuck
from twin.faults.mac_clone import MacClone
from twin.faults.map_late import MapLate
from twin.faults.monitor_loss import MonitorLoss
from twin.faults.mount_replay_long import MountReplayLong
from twin.faults.netboot_failing import NetbootFailing
from twin.faults.new_node import NewNode
from twin.faults.node_crash import NodeCrash
from twin.faults.node_crash_repeated import NodeCrashRepeated
from twin.faults.open_answer_lost import OpenAnswerLost
from twin.faults.operator_drain import OperatorDrain
from twin.faults.operator_retire import OperatorRetire
from twin.faults.operator_undrain import OperatorUndrain
from twin.faults.osd_flap import OsdFlap
from twin.faults.osd_loss import OsdLoss
from twin.faults.partition import Partition
from twin.faults.power_loss import PowerLoss
from twin.faults.power_on_ignored import PowerOnIgnored
from twin.faults.process_pause import ProcessPause
from twin.faults.quorum_loss import QuorumLoss
from twin.faults.retired_returns import RetiredReturns
from twin.faults.rogue_machine import RogueMachine
from twin.faults.rolling_restart import RollingRestart
from twin.faults.service_crash import ServiceCrash
from twin.faults.service_never_healthy import ServiceNeverHealthy
from twin.faults.session_expiry import SessionExpiry
from twin.faults.session_moved import SessionMoved
from twin.faults.session_refused import SessionRefused
from twin.faults.slow_disk import SlowDisk
from twin.faults.start_slow import StartSlow
from twin.faults.steward_pause import StewardPause
from twin.faults.stop_hangs import StopHangs
from twin.faults.storage_cut import StorageCut
from twin.faults.storage_stall import StorageStall
from twin.faults.switch_loss import SwitchLoss
from twin.faults.token_replayed import TokenReplayed
from twin.faults.token_stolen import TokenStolen
from twin.faults.unmount_fails import UnmountFails
from twin.faults.upgrade_begins import UpgradeBegins
from twin.faults.upgrade_halts import UpgradeHalts
from twin.faults.upgrade_node_lost import UpgradeNodeLost
from twin.faults.upgrade_resumes import UpgradeResumes
from twin.faults.watch_late import WatchLate
from twin.faults.watch_repeated import WatchRepeated
from twin.faults.window_expired import WindowExpired
from twin.faults.wrong_uuid import WrongUuid
from twin.faults.zookeeper_crash import ZookeeperCrash
from twin.faults.zookeeper_cut import ZookeeperCut
from twin.faults.zookeeper_leader_crash import ZookeeperLeaderCrash

FAULTS: dict[str, type[Fault]] = {
    "agent_crash": AgentCrash,
    "answer_late": AnswerLate,
    "bad_batch": BadBatch,
    "bad_image": BadImage,
    "blocklist_failing": BlocklistFailing,
    "bmc_answer_lost": BmcAnswerLost,
    "bmc_bootdev_ignored": BmcBootdevIgnored,
    "bmc_cycle_refused": BmcCycleRefused,
    "bmc_dead": BmcDead,
    "bmc_deaf_to_on": BmcDeafToOn,
    "bmc_hangs_after": BmcHangsAfter,
    "bmc_hung": BmcHung,
    "bmc_lying": BmcLying,
    "bmc_order_late": BmcOrderLate,
    "bmc_order_repeated": BmcOrderRepeated,
    "bmc_report_late": BmcReportLate,
    "bmc_session_refused": BmcSessionRefused,
    "bmc_sessions_dropped": BmcSessionsDropped,
    "bmc_slow": BmcSlow,
    "bmc_wrong_password": BmcWrongPassword,
    "boot_slow": BootSlow,
    "boot_twice": BootTwice,
    "card_swapped": CardSwapped,
    "clock_drift": ClockDrift,
    "clock_jump": ClockJump,
    "clock_slew": ClockSlew,
    "close_hangs": CloseHangs,
    "commit_answer_lost": CommitAnswerLost,
    "commit_lost": CommitLost,
    "commit_pause": CommitPause,
    "dhcp_offer_lost": DhcpOfferLost,
    "disk_failure": DiskFailure,
    "disk_slow": DiskSlow,
    "ephemeral_late": EphemeralLate,
    "exit_after_healthy": ExitAfterHealthy,
    "exit_told_late": ExitToldLate,
    "fence_answer_lost": FenceAnswerLost,
    "fence_late": FenceLate,
    "follower_lag": FollowerLag,
    "group_slow": GroupSlow,
    "heartbeats_lost": HeartbeatsLost,
    "image_flawed": ImageFlawed,
    "installed_by_hand": InstalledByHand,
    "image_swapped": ImageSwapped,
    "kernel_panic": KernelPanic,
    "lift_answer_lost": LiftAnswerLost,
    "link_delay": LinkDelay,
    "link_flap": LinkFlap,
    "link_lopsided": LinkLopsided,
    "link_loss": LinkLoss,
    "lock_stuck": LockStuck,
    "mac_clone": MacClone,
    "map_late": MapLate,
    "monitor_loss": MonitorLoss,
    "mount_replay_long": MountReplayLong,
    "netboot_failing": NetbootFailing,
    "new_node": NewNode,
    "node_crash": NodeCrash,
    "node_crash_repeated": NodeCrashRepeated,
    "open_answer_lost": OpenAnswerLost,
    "operator_drain": OperatorDrain,
    "operator_retire": OperatorRetire,
    "operator_undrain": OperatorUndrain,
    "osd_flap": OsdFlap,
    "osd_loss": OsdLoss,
    "partition": Partition,
    "power_loss": PowerLoss,
    "power_on_ignored": PowerOnIgnored,
    "process_pause": ProcessPause,
    "quorum_loss": QuorumLoss,
    "retired_returns": RetiredReturns,
    "rogue_machine": RogueMachine,
    "rolling_restart": RollingRestart,
    "service_crash": ServiceCrash,
    "service_never_healthy": ServiceNeverHealthy,
    "session_expiry": SessionExpiry,
    "session_moved": SessionMoved,
    "session_refused": SessionRefused,
    "slow_disk": SlowDisk,
    "start_slow": StartSlow,
    "steward_pause": StewardPause,
    "stop_hangs": StopHangs,
    "storage_cut": StorageCut,
    "storage_stall": StorageStall,
    "switch_loss": SwitchLoss,
    "token_replayed": TokenReplayed,
    "token_stolen": TokenStolen,
    "unmount_fails": UnmountFails,
    "upgrade_begins": UpgradeBegins,
    "upgrade_halts": UpgradeHalts,
    "upgrade_node_lost": UpgradeNodeLost,
    "upgrade_resumes": UpgradeResumes,
    "watch_late": WatchLate,
    "watch_repeated": WatchRepeated,
    "window_expired": WindowExpired,
    "wrong_uuid": WrongUuid,
    "zookeeper_crash": ZookeeperCrash,
    "zookeeper_cut": ZookeeperCut,
    "zookeeper_leader_crash": ZookeeperLeaderCrash,
}

__all__ = ["FAULTS", "Fault", "Strike"]
