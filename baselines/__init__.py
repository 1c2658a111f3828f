"""Conversion methods, one file each; every function under @method is found by itself."""
