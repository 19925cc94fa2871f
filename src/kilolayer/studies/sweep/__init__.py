"""Sweeps: trials of settings that Optuna chooses, each a run, with the tables and pages of a study."""
