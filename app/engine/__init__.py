"""The engine: slots in shared memory, the process that owns the device, and the front's side of both."""
