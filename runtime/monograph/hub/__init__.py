"""Repositories on a Hub, through huggingface_hub: the only part of the runtime that uses the network.

huggingface_hub is imported on first use. It reads its own variables: HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE,
HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT.
"""

from monograph.hub.download import DEFAULT_ACCESS, HubAccess, HubName, download_files, parse_hub_name, resolve_commit

__all__ = ["DEFAULT_ACCESS", "HubAccess", "HubName", "download_files", "parse_hub_name", "resolve_commit"]
