"""Independent definitions to test against: nothing here imports torchlpr.curvature or .rigidity.

Inputs are plain arrays and plain torch modules; every oracle is slow and obvious on purpose.
"""
