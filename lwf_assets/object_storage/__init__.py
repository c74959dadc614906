"""An object store as a place for bytes under names: S3, GCS, Azure or a shared folder. Knows no artifact."""
