"""Ceph's placement, computed exactly: CRUSH maps and their readers, rules over arrays of inputs, pools, what-ifs."""
