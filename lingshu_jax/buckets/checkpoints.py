"""Checkpoints in object stores: Orbax knows gs:// by Google's own client, and s3:// not at all. Here it learns both.

A checkpoint is finished by a marker object (Orbax's CommitFile), not by a rename; arrays go through TensorStore.
"""

import os
import re
from pathlib import PurePosixPath
from typing import Any

from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from lingshu_jax.buckets import in_bucket
from lingshu_jax.buckets.files import register_buckets

FINISHED = "commit_success.txt"
"""Orbax writes it last."""


def teach_orbax() -> None:
    """Have Orbax treat s3:// as it treats gs://, and ask no Google client for folders, which buckets do not have."""
    register_buckets()
    tensorstore_utils._use_gcs_driver = in_bucket
    tensorstore_utils._normalize_path = _normal
    gcs_utils.get_kvstore_for_gcs = key_value_store
    gcs_utils.is_gcs_path = _is_remote
    gcs_utils.is_hierarchical_namespace_enabled = lambda path: False


def key_value_store(url: str) -> dict[str, Any]:
    """The TensorStore specification of a folder in a bucket."""
    scheme, _, rest = str(url).partition("://")
    bucket, _, key = rest.partition("/")
    spec = {"driver": {"gs": "gcs", "s3": "s3"}[scheme], "bucket": bucket, "path": key}
    if scheme == "s3":
        endpoint, region = os.environ.get("AWS_ENDPOINT_URL"), os.environ.get("AWS_REGION")
        spec |= {"endpoint": endpoint, "aws_region": region or "us-east-1"} if endpoint else {}
        spec |= {"aws_credentials": {"type": "environment"}} if "AWS_ACCESS_KEY_ID" in os.environ else {}
    return spec


def _is_remote(path: PurePosixPath) -> bool:
    return in_bucket(path.as_posix())


def _normal(path: str) -> str:
    return re.sub(r"^(gs|s3):/+", r"\1://", os.path.normpath(path))
