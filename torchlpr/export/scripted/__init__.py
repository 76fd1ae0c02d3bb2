"""TorchScript twins of descriptors, heads and factors, as engines run them.

These modules do not postpone their annotations: TorchScript reads them as types.
"""
