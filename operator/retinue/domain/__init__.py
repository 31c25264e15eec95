"""Pure decisions: no I/O, no clock; the time is an argument."""
