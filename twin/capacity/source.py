"""Whatever a plan can start from: a rack file, or a folder of a real cluster's JSON."""

from pathlib import Path

import msgspec

from core.errors import InputError
from twin.capacity.assumptions import Assumptions, default_assumptions
from twin.capacity.ceph_files import read_ceph
from twin.capacity.cluster import Cluster
from twin.capacity.fill import data_bytes, place_all
from twin.capacity.rack_source import cluster_of


def read_source(path: Path, assumptions: Assumptions | None = None) -> Cluster:
    """Read a rack file or a folder of Ceph JSON; figures that were set take the place of the source's own.

    Raises: InputError if it is neither, or with every problem that its readers find.
    """
    figures = assumptions or default_assumptions()
    try:
        folder = path.is_dir()
        present = folder or path.is_file()
    except (OSError, ValueError):
        folder = present = False
    if not present:
        raise InputError([f"{path}: does not exist; needed: a rack file (racks/*.toml) or a folder of Ceph JSON"])
    if folder:
        return _with_ratios(read_ceph(path), figures)
    if path.suffix.lower() == ".json":
        raise InputError(
            [f"{path}: is one JSON file; needed: the folder that holds all of a cluster's JSON, or a rack file"]
        )
    return _filled(cluster_of(path, figures))


def _with_ratios(cluster: Cluster, figures: Assumptions) -> Cluster:
    """Change the cluster's own full ratios where they were set."""
    changes = {
        key: figures.number(key)
        for key in ("nearfull_ratio", "backfillfull_ratio", "full_ratio")
        if key in figures.changed
    }
    if not changes:
        return cluster
    return msgspec.structs.replace(cluster, osdmap=msgspec.structs.replace(cluster.osdmap, **changes))


def _filled(cluster: Cluster) -> Cluster:
    """Lay users' data over the disks as CRUSH places it."""
    if not any(use.stored_bytes for use in cluster.uses):
        return cluster
    laid = data_bytes(cluster, place_all(cluster.osdmap))
    osds = [
        msgspec.structs.replace(osd, used_bytes=osd.overhead_bytes + int(held))
        for osd, held in zip(cluster.osds, laid.tolist(), strict=True)
    ]
    return msgspec.structs.replace(cluster, osds=tuple(osds))
