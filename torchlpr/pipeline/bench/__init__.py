"""``torchlpr bench``: time and memory, beside other packages and the machine's floor."""
