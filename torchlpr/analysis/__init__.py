"""Maps, statistics and plots of rigidities."""
