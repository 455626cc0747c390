"""Publish bundles as a model repository that monograph and other software load as it is."""

from monograph_export.publishing.publish import Publication, publish

__all__ = ["Publication", "publish"]
