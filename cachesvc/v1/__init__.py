"""Generated from ``protos/cachesvc/v1``; ``make proto`` regenerates it."""
