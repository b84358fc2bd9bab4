"""Pure functions on factors: no files, no names, no AIR. Inputs are torch tensors, results are new tensors."""
