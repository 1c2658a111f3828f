"""How fast the backends are: against the plain step loop, the ANN's own forward pass and SpikingJelly, in paired repeats."""
