"""Where data enter: ASE and extended XYZ in and out, batches, splits, generators."""
