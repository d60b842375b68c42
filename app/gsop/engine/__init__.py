"""The engine: slots, the process that owns the device, and the front's side of both."""
