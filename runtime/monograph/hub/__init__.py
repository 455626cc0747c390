"""Repositories on a Hub, through huggingface_hub: the only part of the runtime that asks the network.

huggingface_hub is imported when a function is called and not before. It reads its own variables: HF_TOKEN, HF_ENDPOINT,
HF_HOME, HF_HUB_OFFLINE, HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT.
"""

from monograph.hub.download import commit_of, download_files
from monograph.hub.names import HubName, hub_name

__all__ = ["HubName", "commit_of", "download_files", "hub_name"]
