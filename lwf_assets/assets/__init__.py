"""One module per asset, named as the asset, each with `materialize(work)`."""
