"""The numerics on models and samples. It takes plain arguments, and knows neither a study nor a store."""
