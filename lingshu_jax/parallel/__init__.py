"""Devices: the mesh, which logical axis lies on which mesh axis, and batches spread over it."""
