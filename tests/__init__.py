"""Tests, in the tree of torchlpr; oracles/ holds the independent definitions."""
