"""The bundle on disk: manifest, files, probes and measurements."""

from monograph.bundle.bundle import Bundle, Check, open_bundle
from monograph.bundle.manifest import Manifest
from monograph.bundle.probes import Probes, read_probes, write_probes

__all__ = ["Bundle", "Check", "Manifest", "Probes", "open_bundle", "read_probes", "write_probes"]
