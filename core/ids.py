"""Names of things. Each is a distinct type for mypy and a plain ``str`` or ``int`` at run time."""

from typing import NewType

NodeId = NewType("NodeId", str)
RackId = NewType("RackId", str)
DomainId = NewType("DomainId", str)
"""A power domain: the machines that one PDU feeds."""
ServiceName = NewType("ServiceName", str)
VolumeName = NewType("VolumeName", str)
BootId = NewType("BootId", str)
"""Changes at every boot of a machine, as ``/proc/sys/kernel/random/boot_id`` does."""
SessionId = NewType("SessionId", int)
"""A ZooKeeper session; 0 is no session."""
OpId = NewType("OpId", int)
"""One outstanding effect of one machine; counts from 1 for each agent process."""
Epoch = NewType("Epoch", int)
"""Orders the holders of one singleton; grows by one with every claim."""
Guid = NewType("Guid", str)
"""A machine: 32 hex digits, the system GUID as its BMC sends it. SMBIOS may show the bytes in another order."""
ImageId = NewType("ImageId", str)
"""An image that nodes boot: the first 16 hex digits of its manifest's SHA-256."""

NO_NODE = NodeId("")
NO_SESSION = SessionId(0)
NO_VOLUME = VolumeName("")
NO_EPOCH = Epoch(0)
NO_GUID = Guid("")
NO_IMAGE = ImageId("")
