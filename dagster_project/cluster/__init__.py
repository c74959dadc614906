"""What a cell needs of a machine, where cells run on several: Ray's nodes, or Kubernetes' pods."""
