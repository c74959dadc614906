"""Steps that several processes share: started by torchrun, heard through Dagster Pipes."""
