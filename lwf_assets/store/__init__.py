"""Artifacts by content: the store, its manifests, the files of each asset, and the home that holds it all."""
