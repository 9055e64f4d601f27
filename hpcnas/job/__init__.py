"""The job that this process is part of: ranks, devices, clocks, signals, exit codes and words. Knows neither
program."""
