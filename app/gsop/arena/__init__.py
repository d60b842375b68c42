"""The shared memory: slots and tickets, what processes tell of themselves, counters. No torch."""
